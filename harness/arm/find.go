package arm

import "fmt"

// Find returns the arm of that name.
func Find(scenarios []Scenario, scenario, name string) (Arm, error) {
	for _, s := range scenarios {
		if s.Name != scenario {
			continue
		}
		for _, a := range s.Arms {
			if a.Name == name {
				return a, nil
			}
		}
	}
	return Arm{}, fmt.Errorf("this agent knows no arm %s/%s", scenario, name)
}
