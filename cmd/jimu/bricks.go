package main

// The bricks of the stock build: one line each.
import (
	_ "github.com/jimu-ai/jimu/providers/openai"
)
