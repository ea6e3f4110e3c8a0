package audit

import "time"

// Every shortens the time between checkpoints.
func (c Config) Every(d time.Duration) Config {
	c.every = d
	return c
}
