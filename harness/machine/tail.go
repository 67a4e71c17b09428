package machine

// tail is a writer that keeps the last tailSize bytes of what it is given.
type tail struct{ kept []byte }

const tailSize = 64 << 10

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - tailSize; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}

func (t *tail) Len() int { return len(t.kept) }

func (t *tail) String() string { return string(t.kept) }
