// Package web holds the built pages: the chat page and what it needs, as Vite
// wrote them and with Brotli and gzip forms beside them.
package web

import "embed"

// Dist is the build. It holds nothing but .gitkeep until `make web` ran.
//
//go:embed all:dist
var Dist embed.FS
