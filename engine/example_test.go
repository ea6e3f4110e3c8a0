package engine_test

import (
	"fmt"

	"pgveil/engine"
	"pgveil/internal/secret"
)

func Example() {
	policy := engine.Policy{ID: "0d9f5a52-6d0a-4a86-9a3e-3a1f6f4f0f11", Name: "ssn", Format: "ssn"}
	key := engine.Key{Version: 1, Secret: secret.New([]byte("thirty-two bytes, not a real key"))}
	transform, err := engine.Compile(policy, []engine.Key{key})
	if err != nil {
		fmt.Println(err)
		return
	}
	token, _ := transform.AppendToken(nil, []byte("078-05-1120"), 1)
	value, _ := transform.AppendPlain(nil, token)
	mask := transform.AppendMask(nil, value)
	fmt.Printf("%s %s\n", value, mask)

	_, err = transform.AppendToken(nil, token, 1)
	fmt.Println(err)
	_, err = transform.AppendToken(nil, []byte("078-05-112O"), 1)
	fmt.Println(err)
	fmt.Println(engine.Guard(policy, "ssn"))
	// Output:
	// 078-05-1120 ***-**-1120
	// policy "ssn": value is not in format ssn: it is already a token
	// policy "ssn": value is not in format ssn: a letter where a digit belongs (at byte 10)
	// (ssn OPERATOR(pg_catalog.~>=~) 'A' AND ssn OPERATOR(pg_catalog.~<~) '[' AND pg_catalog.octet_length(ssn) <= 11)
}
