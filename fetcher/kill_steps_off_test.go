//go:build !steps

package fetcher

// withSteps tells that the engine was built without its steps.
const withSteps = false

// armSteps has nothing to arm.
func armSteps(*run) {}
