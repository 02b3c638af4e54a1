package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jimu-ai/jimu"
)

// journal keeps settled charges until they are committed, so that the death of
// the process loses none. It is not synced: a power cut may lose the last few
// milliseconds. It is a folder of segments, each a row of records: the length
// of the payload, its CRC-32C (both 32 bits, little endian), the payload.
type journal struct {
	dir string

	mu    sync.Mutex
	next  int64 // number of the next segment
	cur   *segment
	buf   []byte
	bytes int64 // written since the start
	write func(f *os.File, b []byte) (int, error)
}

// segment is one file. It goes when all of its records are committed and no
// more can come.
type segment struct {
	file    *os.File
	path    string
	size    int64
	pending int64
	closed  bool
	prices  map[string]bool // versions in it
}

const (
	segmentSize  = 1 << 20
	maxRecord    = 1 << 20
	recordHead   = 8
	segmentEnd   = ".journal"
	recordPrice  = 'P'
	recordCharge = 'C'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli) //nolint:gochecknoglobals // a constant table

// record is a settled charge as the journal keeps it.
type record struct {
	node, request, account, budget string
	taken, over                    jimu.Credit
	price, detail                  string
	at                             time.Time
}

// priceRecord is a price that records after it in the segment refer to.
type priceRecord struct{ version, model, data string }

func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the journal's folder: %w", err)
	}
	j := &journal{dir: dir, next: 1, write: (*os.File).Write}
	paths, err := j.segments()
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if n, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(p), segmentEnd), 16, 64); err == nil {
			j.next = max(j.next, n+1)
		}
	}
	return j, nil
}

// segments lists the segments, the oldest first.
func (j *journal) segments() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(j.dir, "*"+segmentEnd))
	if err != nil {
		return nil, fmt.Errorf("listing the journal: %w", err)
	}
	slices.Sort(paths)
	return paths, nil
}

// append hands a record to the operating system. The segment it is in must be
// told when the record is committed.
func (j *journal) append(r *record, price func() (priceRecord, error)) (*segment, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cur == nil || j.cur.size >= segmentSize {
		if err := j.rotate(); err != nil {
			return nil, err
		}
	}
	seg := j.cur
	j.buf = j.buf[:0]
	known := r.price == "" || seg.prices[r.price]
	if !known {
		p, err := price()
		if err != nil {
			return nil, err
		}
		j.buf = appendPrice(j.buf, p)
	}
	j.buf = appendRecord(j.buf, r)
	n, err := j.write(seg.file, j.buf)
	j.bytes += int64(n)
	if err != nil {
		j.retire() // its end may be torn: nothing may follow
		return nil, fmt.Errorf("writing the journal: %w", err)
	}
	if !known {
		seg.prices[r.price] = true
	}
	seg.size += int64(n)
	seg.pending++
	return seg, nil
}

// rotate begins a new segment.
func (j *journal) rotate() error {
	j.retire()
	path := filepath.Join(j.dir, fmt.Sprintf("%016x%s", j.next, segmentEnd))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600) //nolint:gosec // a number in our own folder
	if err != nil {
		return fmt.Errorf("beginning a segment of the journal: %w", err)
	}
	j.next++
	j.cur = &segment{file: f, path: path, prices: map[string]bool{}}
	return nil
}

// retire ends the current segment.
func (j *journal) retire() {
	if j.cur == nil {
		return
	}
	_ = j.cur.file.Close() // nothing is synced, so nothing is learned
	j.cur.closed = true
	j.drop(j.cur)
	j.cur = nil
}

// drop removes a segment that nothing needs any more. One that stays is only
// read again at the next start, where its records are known.
func (j *journal) drop(seg *segment) {
	if seg.closed && seg.pending == 0 {
		_ = os.Remove(seg.path)
	}
}

// committed says that so many records of a segment are in the books.
func (j *journal) committed(seg *segment, n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	seg.pending -= n
	if seg.pending < 0 {
		panic("ledger: the journal has committed more than it has")
	}
	j.drop(seg)
}

// tidy ends a segment whose records are all committed, so that a restart has
// nothing to read.
func (j *journal) tidy() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.cur != nil && j.cur.pending == 0 && j.cur.size > segmentSize/16 {
		j.retire()
	}
}

// close ends the journal.
func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.retire()
}

func (j *journal) written() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes
}

// frame reserves a record's head and fills it when its payload is written.
func frame(b []byte, payload func(b []byte) []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, recordHead)...)
	b = payload(b)
	body := b[at+recordHead:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body))) //nolint:gosec // far below 4 GiB
	binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(body, castagnoli))
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendRecord(b []byte, r *record) []byte {
	return frame(b, func(b []byte) []byte {
		b = append(b, recordCharge)
		for _, s := range [...]string{r.node, r.request, r.account, r.budget, r.price, r.detail} {
			b = appendText(b, s)
		}
		b = binary.AppendVarint(b, int64(r.taken))
		b = binary.AppendVarint(b, int64(r.over))
		return binary.AppendVarint(b, r.at.UnixMicro())
	})
}

func appendPrice(b []byte, p priceRecord) []byte {
	return frame(b, func(b []byte) []byte {
		b = append(b, recordPrice)
		b = appendText(b, p.version)
		b = appendText(b, p.model)
		return appendText(b, p.data)
	})
}

var errTorn = errors.New("the segment ends in the middle of a record")

// parseSegment reads the records of a segment up to its end or the first
// that is not whole, which is reported as errTorn.
func parseSegment(b []byte) (records []record, prices []priceRecord, err error) {
	for len(b) > 0 {
		if len(b) < recordHead {
			return records, prices, errTorn
		}
		n := binary.LittleEndian.Uint32(b)
		sum := binary.LittleEndian.Uint32(b[4:])
		b = b[recordHead:]
		if n == 0 || n > maxRecord || uint64(n) > uint64(len(b)) || crc32.Checksum(b[:n], castagnoli) != sum {
			return records, prices, errTorn
		}
		p := parser{b: b[1:n]}
		switch kind := b[0]; kind {
		case recordCharge:
			records = append(records, p.record())
		case recordPrice:
			prices = append(prices, priceRecord{p.text(), p.text(), p.text()})
		default:
			return records, prices, fmt.Errorf("the segment has a record of kind %q: it is of a newer jimu", kind)
		}
		if p.bad || len(p.b) > 0 {
			return records, prices, errors.New("the segment has a record that cannot be read")
		}
		b = b[n:]
	}
	return records, prices, nil
}

// parser reads the fields of one payload.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) text() string {
	n, w := binary.Uvarint(p.b)
	if w <= 0 || n > uint64(len(p.b)-w) { //nolint:gosec // w is at most len(p.b)
		p.bad, p.b = true, nil
		return ""
	}
	s := string(p.b[w : w+int(n)]) //nolint:gosec // at most len(p.b)
	p.b = p.b[w+int(n):]           //nolint:gosec // at most len(p.b)
	return s
}

func (p *parser) num() int64 {
	n, w := binary.Varint(p.b)
	if w <= 0 {
		p.bad, p.b = true, nil
		return 0
	}
	p.b = p.b[w:]
	return n
}

func (p *parser) record() record {
	r := record{node: p.text(), request: p.text(), account: p.text(), budget: p.text(), price: p.text(), detail: p.text()}
	r.taken, r.over = jimu.Credit(p.num()), jimu.Credit(p.num())
	r.at = time.UnixMicro(p.num()).UTC()
	p.bad = p.bad || r.taken < 0 || r.over < 0 || r.request == "" || (r.account == "" && r.taken > 0)
	return r
}
