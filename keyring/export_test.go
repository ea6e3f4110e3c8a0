package keyring

// RootKey and WrapKey let tests search printed forms for the keys themselves.
func RootKey(r *Ring) []byte { return r.root.Expose() }
func WrapKey(k KEK) []byte   { return k.(*fileKEK).key.Expose() }
