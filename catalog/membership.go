package catalog

// membership is an edge of pg_auth_members over which privileges are inherited.
type membership struct {
	Role, Member string
}

// spread adds to allowed what the members of each grant's role inherit. It does not go through superusers, neither to
// them nor past them.
func spread(grants []right, edges []membership, superusers map[string]bool, allowed map[right]struct{}) {
	members := map[string][]string{}
	for _, e := range edges {
		members[e.Role] = append(members[e.Role], e.Member)
	}
	for _, g := range grants {
		queue := []string{g.role}
		seen := map[string]bool{g.role: true}
		for len(queue) > 0 {
			role := queue[0]
			queue = queue[1:]
			allowed[right{role, g.action, g.policy}] = struct{}{}
			for _, m := range members[role] {
				if !seen[m] && !superusers[m] {
					seen[m] = true
					queue = append(queue, m)
				}
			}
		}
	}
}
