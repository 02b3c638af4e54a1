package jimu

// Model is a model that a caller may use.
type Model struct {
	ID     string // what a client calls it
	Price  *Price // sealed; all rates are 0 where it is free
	Vendor string // the vendor of the upstream asked first
	Demo   bool   // only the built-in demo upstream serves it
}
