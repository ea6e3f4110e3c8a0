//go:build race

package ff1_test

// raceEnabled says that the tests run under the race detector.
const raceEnabled = true
