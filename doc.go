// Package jimu is the domain and the brick API: what the product does, without
// how. It imports the standard library only.
//
// Read credit.go and ledger.go for money, identity.go for people, price.go and
// usage.go for what a request costs, provider.go for how an upstream is spoken
// to, and brick.go for how a building block joins in.
package jimu
