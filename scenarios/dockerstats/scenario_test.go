package dockerstats

import (
	"slices"
	"testing"
	"time"

	"github.com/leaklab/leaklab/harness/arm"
	"github.com/leaklab/leaklab/harness/engine"
	"github.com/leaklab/leaklab/harness/probe"
)

// Lines as dockerd 1.13.1 wrote them.
const logOf1131 = `time="2026-11-22T14:00:00Z" level=error msg="failed to create osl sandbox while trying to restore sandbox bc51d3e: failed to create a netlink handle: failed to set into network namespace 19 while creating netlink socket: invalid argument"
time="2026-11-22T14:00:10Z" level=error msg="failed to create osl sandbox while trying to restore sandbox bc51d3e: failed to create a netlink handle: failed to set into network namespace 19 while creating netlink socket: invalid argument"
time="2026-11-22T14:00:11Z" level=debug msg="Calling GET /v1.26/containers/c1/stats?stream=0"
time="2026-11-22T14:00:12Z" level=error msg="collecting stats for aa: sandbox bc51d3e not found"
time="2026-11-22T14:00:13Z" level=error msg="collecting stats for aa: sandbox bc51d3e not found"
time="2026-11-22T14:00:13Z" level=error msg="collecting stats for bb: sandbox 0123456 not found"
time="2026-11-22T14:00:14Z" level=error msg="collecting stats for aa: no such file"
`

func clock(seconds int) time.Time { return time.Date(2026, 11, 22, 14, 0, seconds, 0, time.UTC) }

func TestLinesOfTheReport(t *testing.T) {
	log := engine.ParseLog([]byte(logOf1131))
	if n := restoreFailures(log, clock(5)); n != 1 {
		t.Errorf("%d failures to restore, want 1", n)
	}
	if n := restoreFailures(log, clock(11)); n != 0 {
		t.Errorf("%d failures to restore later, want 0", n)
	}
	got := notFoundBetween(log, clock(11), clock(60))
	if got["aa"] != 2 || got["bb"] != 1 || len(got) != 2 {
		t.Errorf("not found: %v", got)
	}
	if got := notFoundBetween(log, clock(0), clock(12)); len(got) != 0 {
		t.Errorf("not found before: %v", got)
	}
}

func TestOnceASecond(t *testing.T) {
	for _, c := range []struct {
		lines   int
		seconds float64
		want    bool
	}{
		{0, 10, false}, {4, 10, false}, {9, 10, true}, {10, 10, true}, {11, 10, true}, {13, 10, false}, {20, 10, false},
		{1, 1, false}, // too short to tell
	} {
		got := onceASecond(map[string]int{"aa": c.lines, "bb": int(c.seconds)}, []string{"aa", "bb"}, time.Duration(c.seconds*float64(time.Second)))
		if got != c.want {
			t.Errorf("%d lines in %v s: %v", c.lines, c.seconds, got)
		}
	}
}

func TestByCount(t *testing.T) {
	caller, other := probe.Owner{PID: 7, Name: callerName}, probe.Owner{PID: 9, Name: "other"}
	got := byCount(map[probe.Owner]int{{}: 3, other: 5, caller: 5})
	if !slices.Equal(got, []probe.Owner{caller, other, {}}) {
		t.Errorf("%v", got)
	}
}

func TestStatus(t *testing.T) {
	before := status{Started: 50, Answered: 10}
	now := status{Started: 150, Answered: 90, Empty: 1, Ended: 2, Released: 3, Failed: 4}
	if n := now.hanging(); n != 50 {
		t.Errorf("%d hang, want 50", n)
	}
	d := now.since(before)
	if d.Started != 100 || d.Answered != 80 || d.returned() != 90 {
		t.Errorf("since: %+v", d)
	}
}

func TestReportsDay(t *testing.T) {
	if reportDay != 172_800 {
		t.Errorf("the report's day has %d calls", reportDay)
	}
}

func TestCountersScaleWithContainers(t *testing.T) {
	one, many := counters(1), counters(20)
	for i := range one {
		if many[i].Documented != 20*one[i].Documented {
			t.Errorf("%s: %v per call, %v per poll of 20", one[i].Name, one[i].Documented, many[i].Documented)
		}
	}
}

// Every claim must ask for arms, outcomes and counters that exist.
func TestClaimsAskForWhatThereIs(t *testing.T) {
	arms := map[string]arm.Arm{}
	for _, a := range Scenario.Arms {
		if _, twice := arms[a.Name]; twice {
			t.Errorf("two arms %s", a.Name)
		}
		arms[a.Name] = a
	}
	for _, c := range claims {
		for _, check := range c.Checks {
			a, ok := arms[check.Arm]
			if !ok {
				t.Errorf("%s: no arm %s", c.ID, check.Arm)
				continue
			}
			if check.Outcome != "" && !slices.ContainsFunc(a.Outcomes, func(o arm.Outcome) bool {
				return o.Name == check.Outcome && o.Expect == check.Share
			}) {
				t.Errorf("%s: %s does not expect %q %s", c.ID, a.Name, check.Outcome, check.Share)
			}
			if check.Counter != "" && !slices.ContainsFunc(a.Counters, func(c arm.Counter) bool { return c.Name == check.Counter }) {
				t.Errorf("%s: %s has no counter %q", c.ID, a.Name, check.Counter)
			}
		}
	}
}
