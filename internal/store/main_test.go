package store_test

import (
	"flag"
	"fmt"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests, or, given a data folder, the process that
// [TestKilled] kills.
func TestMain(m *testing.M) {
	if flag.Parse(); flag.NArg() == 1 {
		fmt.Println(writeUntilKilled(flag.Arg(0)))
		return
	}
	goleak.VerifyTestMain(m)
}
