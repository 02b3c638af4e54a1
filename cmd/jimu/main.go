// Command jimu is the whole product: it serves, and it is the operator's tool.
package main

import (
	"context"
	"os"

	"github.com/jimu-ai/jimu/internal/app"
)

func main() {
	os.Exit(app.Main(context.Background(), app.Process{
		Args:   os.Args[1:],
		Env:    os.LookupEnv,
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
	}))
}
