package scram

// FirstWithNonce is Server.First with a server nonce of the test's.
func (s *Server) FirstWithNonce(mechanism string, message []byte, client, server string) ([]byte, error) {
	first, err := s.First(mechanism, message)
	if err != nil {
		return nil, err
	}
	s.first = "r=" + client + server + string(first[len("r=")+len(s.nonce):])
	s.nonce = client + server
	return []byte(s.first), nil
}

// Derive makes the verifier of a password with a salt of the test's.
func Derive(password, salt []byte, iterations int) (Verifier, error) {
	k, err := derive(password, salt, iterations)
	return k.Verifier, err
}
