package pgwire

import (
	"maps"
	"sync"
	"sync/atomic"

	"pgveil/sql"
)

// maxWords bounds a vocabulary; a fuller one is emptied.
const maxWords = 20_000

// vocabulary is the set of words that statements of a database have used. The name of something that was just made elsewhere is a new
// word, which is when the database must be looked at again. Reading it takes no lock.
type vocabulary struct {
	words atomic.Pointer[map[string]struct{}]

	mu sync.Mutex // of writers
}

// unknown tells whether text has a word that is new.
func (v *vocabulary) unknown(text string) bool {
	known := v.words.Load()
	return sql.NewWord(text, func(w string) bool {
		if known == nil {
			return false
		}
		_, ok := (*known)[w]
		return ok
	})
}

// fresh is unknown, and adds the words. That takes a copy of the vocabulary.
func (v *vocabulary) fresh(text string) bool {
	isNew := v.unknown(text)
	if isNew {
		v.learn(text)
	}
	return isNew
}

func (v *vocabulary) learn(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	grown := map[string]struct{}{}
	if old := v.words.Load(); old != nil && len(*old) < maxWords {
		grown = maps.Clone(*old)
	}
	sql.NewWord(text, func(w string) bool {
		grown[string([]byte(w))] = struct{}{} // a copy: the text must not be kept
		return true
	})
	v.words.Store(&grown)
}
