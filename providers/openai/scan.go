package openai

import "bytes"

// A scanner for JSON that is read once and mostly thrown away. It finds the
// spans of members and elements without allocating; it does not check what it
// skips. Whatever the bytes, it ends, and its spans are within them.

// space skips white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// str returns the position after the string that begins at i, or -1.
func str(b []byte, i int) int {
	for i++; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		back := i - 1
		for b[back] == '\\' { // the opening quote stops it at the latest
			back--
		}
		if (i-back)%2 == 1 {
			return i + 1
		}
	}
	return -1
}

// value returns the position after the value that begins at i, or -1.
func value(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return str(b, i)
	case '{', '[':
		return nested(b, i)
	}
	start := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func nested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = str(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// members goes over the object that begins at i. f is given each name, raw and
// without quotes, and where the value begins; it returns the position behind
// it. So does members; both return -1 where the text is not JSON.
func members(b []byte, i int, f func(name []byte, i int) int) int {
	for i = space(b, i+1); i < len(b) && b[i] == '"'; i = space(b, i+1) {
		end := str(b, i)
		if end < 0 {
			return -1
		}
		name := b[i+1 : end-1]
		if i = space(b, end); i >= len(b) || b[i] != ':' {
			return -1
		}
		if i = f(name, space(b, i+1)); i < 0 {
			return -1
		}
		if i = space(b, i); i >= len(b) || b[i] != ',' {
			break
		}
	}
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	return -1
}

// elements goes over the array that begins at i, as members does.
func elements(b []byte, i int, f func(i int) int) int {
	for i = space(b, i+1); i < len(b) && b[i] != ']'; i = space(b, i+1) {
		if i = f(i); i < 0 {
			return -1
		}
		if i = space(b, i); i >= len(b) || b[i] != ',' {
			break
		}
	}
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	return -1
}

// begins reports whether a value that begins with c is at i.
func begins(b []byte, i int, c byte) bool { return i < len(b) && b[i] == c }

// walker goes over the members of an object, or the elements of an array.
type walker struct {
	b   []byte
	i   int
	key []byte // raw, without quotes; nil in an array
	val []byte // raw
}

// walk begins with an object or array. Of anything else it has no members.
func walk(b []byte) walker {
	i := space(b, 0)
	if i >= len(b) || (b[i] != '{' && b[i] != '[') {
		return walker{i: -1}
	}
	return walker{b: b, i: i}
}

// next moves to the next member and reports whether there is one.
func (w *walker) next() bool {
	if w.i < 0 {
		return false
	}
	object := w.b[space(w.b, 0)] == '{'
	i := space(w.b, w.i+1)
	w.i = -1
	if object {
		if i >= len(w.b) || w.b[i] != '"' {
			return false
		}
		end := str(w.b, i)
		if end < 0 {
			return false
		}
		w.key = w.b[i+1 : end-1]
		if i = space(w.b, end); i >= len(w.b) || w.b[i] != ':' {
			return false
		}
		i = space(w.b, i+1)
	}
	end := value(w.b, i)
	if end < 0 {
		return false
	}
	w.val = w.b[i:end]
	if i = space(w.b, end); i < len(w.b) && w.b[i] == ',' {
		w.i = i
	}
	return true
}

// empty reports whether a value says nothing: null, "", {}, [], 0 or false.
func empty(v []byte) bool {
	switch string(v) {
	case "", "null", `""`, "{}", "[]", "0", "false":
		return true
	}
	if v[0] == '{' || v[0] == '[' {
		return space(v, 1) == len(v)-1
	}
	return false
}
