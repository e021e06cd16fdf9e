// Package powfast pays powfast's challenges: an http.RoundTripper from docs/protocol.md alone.
//
//	client := &http.Client{Transport: &powfast.Transport{}}
//	answer, err := client.Post(url, "application/json", bytes.NewReader(body))
//
// It leaves out paying ahead (PoW-Challenge) and gRPC.
package powfast

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultMaxWork is about a minute's work of this client on a few cores, in evaluations of SHA-256.
const DefaultMaxWork = 1 << 29

// mostChallenges of one request: what is asked before it runs, and what its answer cost beyond it.
const mostChallenges = 2

var (
	// ErrTooMuchWork says that a challenge asks for more than MaxWork. Nothing was computed.
	ErrTooMuchWork = errors.New("too much work")
	// ErrMalformed says that what was sent as a challenge is not one this client knows.
	ErrMalformed = errors.New("not a challenge that this client can solve")
	// ErrExpired says that the challenge's life was over before it was solved.
	ErrExpired = errors.New("not solved while the challenge lived")
	// ErrBody says that the request's body cannot be sent again: GetBody is missing.
	ErrBody = errors.New("the body cannot be sent a second time: set GetBody")
)

var asked = regexp.MustCompile(`(?i)\bPoW +challenge="([A-Za-z0-9_-]+)"`)

// Transport sends requests through Base and pays for those that are asked for work.
//
// A solution goes to the URL that asked for it. A challenge at the end of a redirect is handed to
// the caller as the 402 that it is.
type Transport struct {
	Base    http.RoundTripper // nil: http.DefaultTransport
	MaxWork uint64            // of one challenge, in evaluations of SHA-256; 0: DefaultMaxWork
}

// RoundTrip sends a request, and sends it again with a solution where the answer asks for one.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	answer, err := base.RoundTrip(request)
	redirected := request.Response != nil
	for paid := 0; err == nil && !redirected && paid < mostChallenges; paid++ {
		text := challengeIn(answer)
		// without a receipt, a second challenge says that the first solution was refused
		if text == "" || (paid > 0 && answer.Header.Get("PoW-Receipt") == "") {
			break
		}
		discard(answer)
		var again *http.Request
		if again, err = t.paid(request, text); err == nil {
			answer, err = base.RoundTrip(again)
		}
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// paid returns the same request with the solution of a challenge.
func (t *Transport) paid(request *http.Request, text string) (*http.Request, error) {
	again := request.Clone(request.Context())
	if request.Body != nil && request.Body != http.NoBody {
		if request.GetBody == nil {
			return nil, ErrBody
		}
		body, err := request.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	most := t.MaxWork
	if most == 0 {
		most = DefaultMaxWork
	}
	solution, err := Solve(request.Context(), text, most)
	if err != nil {
		if again.Body != nil {
			again.Body.Close()
		}
		return nil, err
	}
	again.Header.Set("PoW-Solution", solution)
	return again, nil
}

func challengeIn(answer *http.Response) string {
	if answer.StatusCode < 400 || answer.StatusCode > 499 {
		return ""
	}
	found := asked.FindStringSubmatch(strings.Join(answer.Header["Www-Authenticate"], ", "))
	if found == nil {
		return ""
	}
	return found[1]
}

// Solve returns the PoW-Solution header's value for a challenge that was received just now.
func Solve(ctx context.Context, text string, maxWork uint64) (string, error) {
	puzzle, err := read(text)
	if err != nil {
		return "", err
	}
	if puzzle.work > maxWork {
		return "", fmt.Errorf("%w: %d evaluations, allowed are %d", ErrTooMuchWork, puzzle.work, maxWork)
	}
	// the server's clock may be wrong here: only the difference between its two times counts
	living, cancel := context.WithTimeout(ctx, puzzle.lifetime)
	defer cancel()
	nonces, err := puzzle.solve(living)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrExpired, puzzle.lifetime)
	}
	packed := make([]byte, 8*len(nonces))
	for part, nonce := range nonces {
		binary.BigEndian.PutUint64(packed[8*part:], nonce)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(packed), nil
}

type puzzle struct {
	seed     [32]byte
	work     uint64
	parts    uint16
	lifetime time.Duration
}

// Of a token: tag, algorithm, id, work, parts, issued, expires. The rest is the server's.
const (
	tag         = "powfast/c1"
	algorithmAt = len(tag)
	workAt      = algorithmAt + 1 + 16
	partsAt     = workAt + 8
	issuedAt    = partsAt + 2
	expiresAt   = issuedAt + 8
	headSize    = expiresAt + 8
)

func read(text string) (*puzzle, error) {
	token, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(token) < headSize || string(token[:len(tag)]) != tag {
		return nil, ErrMalformed
	}
	if token[algorithmAt] != 1 {
		return nil, fmt.Errorf("%w: algorithm %d", ErrMalformed, token[algorithmAt])
	}
	found := &puzzle{
		seed:  sha256.Sum256(token),
		work:  binary.BigEndian.Uint64(token[workAt:]),
		parts: binary.BigEndian.Uint16(token[partsAt:]),
	}
	issued, expires := binary.BigEndian.Uint64(token[issuedAt:]), binary.BigEndian.Uint64(token[expiresAt:])
	if found.work == 0 || found.parts == 0 || found.parts > 1024 || expires < issued {
		return nil, ErrMalformed
	}
	const day = 24 * time.Hour // longer than anything is solved, and far from overflow
	found.lifetime = day
	if milliseconds := expires - issued; milliseconds < uint64(day.Milliseconds()) {
		found.lifetime = time.Duration(milliseconds) * time.Millisecond
	}
	return found, nil
}

// solve searches the parts on all cores: each thread takes the next part that nobody has begun.
func (p *puzzle) solve(ctx context.Context) ([]uint64, error) {
	nonces := make([]uint64, p.parts)
	var next atomic.Uint32
	var threads sync.WaitGroup
	for thread := 0; thread < runtime.GOMAXPROCS(0); thread++ {
		threads.Add(1)
		go func() {
			defer threads.Done()
			for part := next.Add(1) - 1; part < uint32(p.parts) && ctx.Err() == nil; part = next.Add(1) - 1 {
				nonces[part] = p.search(ctx, part)
			}
		}()
	}
	threads.Wait()
	return nonces, ctx.Err()
}

// search returns the nonce of one part, or any where the context ends.
func (p *puzzle) search(ctx context.Context, part uint32) uint64 {
	var message [55]byte
	copy(message[:], p.seed[:])
	copy(message[32:], "powfast/v1:")
	binary.BigEndian.PutUint32(message[43:], part)
	last := p.last()
	for nonce := uint64(0); ; nonce++ {
		binary.BigEndian.PutUint64(message[47:], nonce)
		digest := sha256.Sum256(message[:])
		if binary.BigEndian.Uint64(digest[:]) <= last || (nonce%4096 == 0 && ctx.Err() != nil) {
			return nonce
		}
	}
}

// last is the largest first word of a solution's digest: floor(2^64 / w) - 1.
func (p *puzzle) last() uint64 {
	each := (p.work-1)/uint64(p.parts) + 1
	quotient, remainder := math.MaxUint64/each, math.MaxUint64%each
	if remainder == each-1 {
		return quotient // w divides 2^64; for w = 1 this is every word
	}
	return quotient - 1
}

// drain is how much of an answer that is not wanted is read, so that its connection serves again.
const drain = 64 << 10

func discard(answer *http.Response) {
	io.CopyN(io.Discard, answer.Body, drain)
	answer.Body.Close()
}
