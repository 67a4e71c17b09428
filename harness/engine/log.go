package engine

import (
	"strconv"
	"strings"
	"time"
)

// LogLine is one line of a daemon's log.
type LogLine struct {
	// At is when it was written; zero in a line that does not say.
	At time.Time
	// Level is "debug", "info", "error", …
	Level string
	// Text is the message without quotes and escapes. A line that is not in the
	// daemon's format, such as a panic, is all text.
	Text string
}

// ParseLog splits a log of logrus' text format, which dockerd and containerd
// write: time="…" level=… msg="…" and more.
func ParseLog(log []byte) []LogLine {
	var lines []LogLine
	for raw := range strings.Lines(string(log)) {
		if raw = strings.TrimRight(raw, "\n"); raw != "" {
			lines = append(lines, parseLine(raw))
		}
	}
	return lines
}

func parseLine(raw string) LogLine {
	fields := map[string]string{}
	for rest := raw; rest != ""; rest = strings.TrimLeft(rest, " ") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || strings.ContainsAny(key, ` "`) {
			break
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil {
			fields[key], rest, _ = strings.Cut(after, " ")
			continue
		}
		// QuotedPrefix has seen that it can be unquoted.
		fields[key], _ = strconv.Unquote(quoted)
		rest = after[len(quoted):]
	}
	at, err := time.Parse(time.RFC3339Nano, fields["time"])
	text, ok := fields["msg"]
	if err != nil || !ok {
		return LogLine{Text: raw}
	}
	return LogLine{At: at, Level: fields["level"], Text: text}
}
