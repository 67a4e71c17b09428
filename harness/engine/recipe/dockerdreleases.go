package recipe

// DockerdReleases are the dockerds of [Families] as they came out, oldest first:
// the axis of a bisection.
var DockerdReleases = []string{"1.13.1", "18.09", "20.10.24", "25.0.6", "28.5.2"}
