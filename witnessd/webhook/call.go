package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// retryFirst doubles with each failure, up to retryLimit.
	retryFirst = time.Second
	retryLimit = time.Minute
	// refusedDelay is for an answer that another call will hardly change, goneDelay for a receiver that says that
	// it is gone. Both are called again all the same, for receivers are mended, and no event may be lost in silence.
	refusedDelay = 5 * time.Minute
	goneDelay    = time.Hour
	// askedLimit bounds what a receiver may ask for with Retry-After.
	askedLimit = 10 * time.Minute
	// answerLimit bounds what is read of an answer, in bytes, saidLimit what the log has of it.
	answerLimit = 4096
	saidLimit   = 200
)

// failure is why a call did not deliver.
type failure struct {
	status int // of the answer; 0: there was none
	asked  time.Duration
	why    string
}

func (f *failure) Error() string { return f.why }

// refused says whether the receiver does not want the message, rather than cannot take it now.
func (f *failure) refused() bool {
	switch f.status {
	case 0, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	default:
		return f.status < 500
	}
}

// delay is how long to wait after so many failures in a row. Jitter keeps webhooks of one receiver apart.
func (f *failure) delay(failures int) time.Duration {
	d := max(f.asked, min(retryFirst<<min(failures-1, 10), retryLimit))
	switch {
	case f.status == http.StatusGone:
		d = goneDelay
	case f.refused():
		d = max(d, refusedDelay)
	}
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// call delivers a message or says why not.
func (s *Sender) call(ctx context.Context, h Hook, m message) *failure {
	req, err := s.request(ctx, h, m)
	if err != nil {
		return &failure{why: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	client := http.Client{
		Transport:     s.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(req.WithContext(ctx))
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return &failure{why: fmt.Sprintf("no answer within %v", h.Timeout)}
		}
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // what it adds is the URL, which may hold a password
		}
		return &failure{why: err.Error()}
	}
	defer answer.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(answer.Body, answerLimit)) // the status alone counts
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return nil
	}
	f := &failure{status: answer.StatusCode, asked: askedFor(answer.Header), why: "answered " + answer.Status}
	if text := strings.Join(strings.Fields(string(said)), " "); text != "" {
		f.why += ": " + strings.ToValidUTF8(text[:min(len(text), saidLimit)], "")
	}
	return f
}

// request is a message with its headers, signed for this very call.
func (s *Sender) request(ctx context.Context, h Hook, m message) (*http.Request, error) {
	keys, err := ReadKeys(h.SecretFile)
	if err != nil {
		return nil, err
	}
	now := s.now().Unix()
	signature, err := sign(keys, m.id, now, m.body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(m.body))
	if err != nil {
		return nil, errors.New("url is not valid")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "witnessd")
	req.Header.Set("webhook-id", m.id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now, 10))
	req.Header.Set("webhook-signature", signature)
	return req, nil
}

// askedFor is how long the receiver asks to be left alone.
func askedFor(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 32)
	if err != nil {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, askedLimit)
}
