package sql

import "google.golang.org/protobuf/reflect/protoreflect"

// The parse tree is protobuf; these are its reflection types under shorter names.
type (
	message         = protoreflect.Message
	fieldDescriptor = protoreflect.FieldDescriptor
	fieldValue      = protoreflect.Value
)
