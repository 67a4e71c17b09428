package arm

// Claim is one checkable sentence of a field report, and how it is measured.
// Its verdict is never written down: the ledger works it out of results.
type Claim struct {
	// ID is stable: "T4".
	ID string
	// Says is the sentence, in our words.
	Says string
	// Checks must all hold for the claim to be confirmed.
	Checks []Check
	// Correction is what is true beside or instead of the sentence. Where its
	// checks hold too, the claim is refined.
	Correction *Correction
	// Missing says what it would take to measure a claim that has no checks.
	Missing string
}

// Correction is where a measurement makes a report's sentence more precise.
type Correction struct {
	Says   string
	Checks []Check
}

// Check asks one thing of one arm's result. It is made by [Happens],
// [NeverHappens], [PerOperation], [LeavesNothing] and [Reads].
type Check struct {
	Arm string
	// Outcome must hold as often as Share says.
	Outcome string
	Share   Share
	// Counter must have its slope's whole interval between Lo and Hi.
	Counter string
	Lo, Hi  float64
	// Verdict must be that of the arm.
	Verdict Verdict
}

// Happens asks that an outcome holds in the arm's trials.
func Happens(arm, outcome string) Check { return Check{Arm: arm, Outcome: outcome, Share: Always} }

// NeverHappens asks that an outcome holds in none of the arm's trials.
func NeverHappens(arm, outcome string) Check { return Check{Arm: arm, Outcome: outcome, Share: Never} }

// PerOperation asks that a counter's slope lies between lo and hi.
func PerOperation(arm, counter string, lo, hi float64) Check {
	return Check{Arm: arm, Counter: counter, Lo: lo, Hi: hi}
}

// LeavesNothing asks that an arm reads clean.
func LeavesNothing(arm string) Check { return Check{Arm: arm, Verdict: Clean} }

// Reads asks for an arm's verdict.
func Reads(arm string, v Verdict) Check { return Check{Arm: arm, Verdict: v} }

// ClaimVerdict is what the results say about a claim.
type ClaimVerdict string

// The verdicts on claims.
const (
	Confirmed ClaimVerdict = "confirmed"
	Refined   ClaimVerdict = "refined"   // true, with a correction
	Refuted   ClaimVerdict = "refuted"   // a check gave the opposite
	Undecided ClaimVerdict = "undecided" // measured, and the numbers do not tell
	NotHere   ClaimVerdict = "not run here"
)
