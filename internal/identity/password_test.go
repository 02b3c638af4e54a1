package identity

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jimu-ai/jimu"
)

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		good, "seven lanterns over Xiamen", "xK9#mQ2$vL5@", "我的积木倒了三次才搭好它", "plum-anchor-violin-42", "tr0ub4dor&3 is old",
		"happy orange lantern umbrella",
	} {
		if err := checkPassword(p, "Ann"); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{
		"", "short", "elevenchars", "password1234", "Password1234!", "P@ssw0rd1234", "passwordpassword", "123456789012", "aaaaaaaaaaaa",
		"abcabcabcabc", "abcdefghijkl", "qwertyuiop12", "QWERTYUIOP[]", "1qaz2wsx3edc", "987654321098", "adminadminadmin", "administrator1",
		"welcome2026!!", "iloveyou12345", "annann123456", "Ann1234567890", "letmein, letmein", "correct horse battery staple", "zxcvbnm,./123",
		"1111 1111 1111", "woaini1314520", "jimujimu2026", "\xff\xfe12345678901234", strings.Repeat("long ", 300),
	} {
		if err := checkPassword(p, "Ann"); codeOf(err) != jimu.Invalid {
			t.Errorf("%q was taken (%v)", p, err)
		}
	}
}

func FuzzCheckPassword(f *testing.F) {
	f.Add("password1234", "Ann")
	f.Add("violet kettle 7 mornings", "")
	f.Add("\xff", "\xff")
	f.Fuzz(func(t *testing.T, p, name string) {
		if err := checkPassword(p, name); err == nil && len([]rune(p)) < minPasswordRunes {
			t.Errorf("%q was taken", p)
		}
	})
}

func quick() *Identity {
	return New(Options{Log: slog.New(slog.DiscardHandler), Now: time.Now})
}

func TestHash(t *testing.T) {
	t.Parallel()
	i, ctx := quick(), t.Context()
	a, err := i.hash(ctx, good)
	if err != nil {
		t.Fatal(err)
	}
	b, err := i.hash(ctx, good)
	if err != nil || a == b {
		t.Fatalf("two hashes are the same (%v)", err)
	}
	if !strings.HasPrefix(a, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Error(a)
	}
	for p, want := range map[string]bool{good: true, good + " ": false, "": false, strings.Repeat("x", maxPasswordBytes+1): false} {
		if got, err := i.matches(ctx, p, a); err != nil || got != want {
			t.Errorf("%q: %v, %v", p, got, err)
		}
	}
	// A hash made elsewhere (the argon2 reference program; the salt is "somesalt").
	if _, err := parsePHC("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"); err != nil {
		t.Error(err)
	}
	if ok, err := i.matches(ctx, "password", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"); err != nil || !ok {
		t.Errorf("a reference hash does not match: %v, %v", ok, err)
	}
	if _, err := parsePHC(absent); err != nil {
		t.Errorf("the hash of nobody: %v", err)
	}
}

func FuzzParsePHC(f *testing.F) {
	f.Add(absent)
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAA$AAAA")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parsePHC(s); err == nil && (p.memory > 1<<18 || p.time > 16 || p.threads < 1 || len(p.sum) != argonKey) {
			t.Errorf("%q: %+v", s, p)
		}
	})
}

// No more than two passwords are hashed at once, and who waits too long is
// told so.
func TestHashingIsBounded(t *testing.T) {
	t.Parallel()
	i := quick()
	for range hashesAtOnce {
		i.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := i.hash(ctx, good)
	wantCode(t, err, jimu.Overloaded)
	<-i.hashing
	if _, err := i.hash(t.Context(), good); err != nil {
		t.Error(err)
	}
}

func how(ok bool) outcome {
	if ok {
		return succeeded
	}
	return failed
}

// A try that ends without an answer, as one that the client breaks off, must
// not be taken for a success: that would reset the count.
func TestThrottleUndecided(t *testing.T) {
	t.Parallel()
	now := &clock{t: time.Now()}
	th := newThrottle(now.Now)
	addr := netip.MustParseAddr("192.0.2.1")
	for _, o := range []outcome{failed, failed, failed, failed, undecided, undecided, failed} {
		done, err := th.begin("ann", addr)
		if err != nil {
			t.Fatal(err)
		}
		done(o)
	}
	_, err := th.begin("ann", netip.MustParseAddr("198.51.100.1"))
	wantCode(t, err, jimu.RateLimited)
	_, err = th.begin("bob", addr)
	wantCode(t, err, jimu.RateLimited)
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	now := &clock{t: time.Now()}
	th := newThrottle(now.Now)
	try := func(account, addr string, ok bool) time.Duration {
		t.Helper()
		done, err := th.begin(account, netip.MustParseAddr(addr))
		if err != nil {
			wantCode(t, err, jimu.RateLimited)
			return jimu.ErrorOf(err).RetryAfter
		}
		done(how(ok))
		return 0
	}
	for n := range freeFailures {
		if w := try("ann", fmt.Sprintf("10.0.%d.1", n), false); w != 0 {
			t.Fatalf("failure %d waits %v", n, w)
		}
	}
	if w := try("ann", "10.9.9.9", true); w != time.Second {
		t.Errorf("after five failures of an account: %v", w)
	}
	if w := try("bob", "10.9.9.9", true); w != 0 {
		t.Errorf("another account waits %v", w)
	}
	// However long it is attacked, an account never waits above a minute.
	for n := range 200 {
		now.pass(maxAccountWait)
		if w := try("ann", fmt.Sprintf("10.1.%d.1", n), false); w != 0 {
			t.Fatalf("attack %d: %v", n, w)
		}
	}
	if w := try("ann", "10.9.9.9", true); w != maxAccountWait {
		t.Errorf("waits %v", w)
	}
	now.pass(maxAccountWait)
	if w := try("ann", "203.0.113.5", true); w != 0 {
		t.Errorf("the owner waits %v", w)
	}
	// From where he signed in before, he does not wait for the account.
	for n := range 10 {
		now.pass(maxAccountWait)
		try("ann", fmt.Sprintf("10.2.%d.1", n), false)
	}
	if w := try("ann", "203.0.113.77", true); w != 0 {
		t.Errorf("from a familiar network he waits %v", w)
	}
}

func TestThrottleNetworks(t *testing.T) {
	t.Parallel()
	now := &clock{t: time.Now()}
	th := newThrottle(now.Now)
	try := func(account, addr string) bool {
		done, err := th.begin(account, netip.MustParseAddr(addr))
		if err != nil {
			return false
		}
		done(failed)
		return true
	}
	for n := range freeFailures {
		if !try(fmt.Sprint("user", n), fmt.Sprintf("192.0.2.%d", n)) {
			t.Fatal(n)
		}
		if !try(fmt.Sprint("other", n), fmt.Sprintf("2001:db8:0:1::%d", n)) {
			t.Fatal(n)
		}
	}
	for addr, want := range map[string]bool{
		"192.0.2.200": false, "192.0.3.1": true, "::ffff:192.0.2.9": false, "2001:db8:0:1:ffff::1": false, "2001:db8:0:2::1": true,
	} {
		if got := try("fresh "+addr, addr); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	now.pass(forgetAfter + time.Second)
	if !try("later", "192.0.2.1") {
		t.Error("failures are never forgotten")
	}
}

func TestThrottleAtOnce(t *testing.T) {
	t.Parallel()
	th := newThrottle(time.Now)
	addr := netip.MustParseAddr("192.0.2.1")
	var all []func(outcome)
	for range triesAtOnce {
		done, err := th.begin("ann", addr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, done)
	}
	_, err := th.begin("ann", addr)
	wantCode(t, err, jimu.RateLimited)
	for _, done := range all {
		done(succeeded)
	}
	if _, err := th.begin("ann", addr); err != nil {
		t.Error(err)
	}
}

func TestThrottleIsBounded(t *testing.T) {
	t.Parallel()
	now := &clock{t: time.Now()}
	th := newThrottle(now.Now)
	for n := range maxTracked * 2 {
		addr := netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 1})
		if done, err := th.begin(fmt.Sprint("user", n), addr); err == nil {
			done(failed)
		}
	}
	if n := len(th.accounts) + len(th.networks); n > maxTracked+2 {
		t.Errorf("%d are remembered", n)
	}
}
