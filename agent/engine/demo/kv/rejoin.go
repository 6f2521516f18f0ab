package kv

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A mirror whose log does not continue the primary's is made to fit here: cut at the fork, or emptied.
// From before the first byte is taken away until the log has reached what the primary had at that time,
// the directory carries a mark, so that a copy which lacks something is never promoted, also not after a
// crash half way.

// begin notes that frames come in, and how far they must come until the copy is whole.
func (r *receiver) begin(w welcome) {
	s := r.s
	r.meter = meter{since: now()}
	r.report(func(st *UpstreamStatus) {
		s.target = w.end
		step := StepStreaming
		if s.incomplete && w.at == 0 {
			step = StepClone
		} else if s.incomplete {
			step = StepCatchUp
		}
		*st = UpstreamStatus{Address: st.Address, Name: st.Name, Step: step, Detail: st.Detail}
		if step != StepStreaming {
			st.Done, st.Total = s.commits.flushed, w.end
		}
	})
	s.log.Info("following", "upstream", r.up.Address, "offset", s.journal.end, "step", r.step())
	r.finishIfWhole()
}

func (r *receiver) step() Step {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.status.Step
}

// progress tells how far the log has come and ends a copy or a rewind when nothing is missing any more.
func (r *receiver) progress() int64 {
	flushed := r.s.journal.end
	if r.step() != StepStreaming {
		r.meter.at(now(), flushed)
		r.report(func(st *UpstreamStatus) { st.Done, st.Rate = flushed, r.meter.rate })
		r.finishIfWhole()
	}
	return flushed
}

// finishIfWhole takes the mark away when the log has reached the target.
func (r *receiver) finishIfWhole() {
	s := r.s
	s.mu.Lock()
	whole := s.incomplete && s.commits.flushed >= s.target && s.commits.flushed > 0
	s.mu.Unlock()
	if !whole {
		return
	}
	if err := s.markIncomplete(false); err != nil {
		s.fail(err)
		return
	}
	r.report(func(st *UpstreamStatus) {
		s.incomplete = false
		st.Step, st.Done, st.Total, st.Rate = StepStreaming, 0, 0, 0
	})
	s.log.Info("copy is whole", "offset", s.journal.end)
}

// rewind cuts the log where it left the primary's.
func (r *receiver) rewind(w welcome) error {
	s := r.s
	if w.at <= 0 || w.at >= s.journal.end {
		return fmt.Errorf("rewind: the upstream names offset %d, and the log ends at %d",
			w.at, s.journal.end)
	}
	r.report(func(st *UpstreamStatus) {
		st.Step, st.Done, st.Total = StepRewind, 0, s.commits.flushed-w.at
	})
	count, file, err := s.saveDiverged(w.at, r.up.KeepDiverged)
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	if err := s.becomeIncomplete(); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	if err := s.journal.truncate(w.at); err != nil {
		s.fail(err)
		return err
	}
	if err := s.reload(); err != nil {
		s.fail(err)
		return err
	}
	detail := fmt.Sprintf("%d commits cut off", count)
	if file != "" {
		detail += ", kept in " + file
	}
	r.report(func(st *UpstreamStatus) {
		s.discarded += count
		st.Detail = detail
	})
	s.log.Warn("cut off what the primary does not have", "offset", w.at, "commits", count, "file", file)
	return nil
}

// becomeEmpty makes place for a copy of everything.
func (r *receiver) becomeEmpty(w welcome) error {
	s := r.s
	s.mu.Lock()
	data, _ := s.data()
	s.mu.Unlock()
	if data != DataEmpty && data != DataIncomplete && !r.up.AllowCopy {
		text := fmt.Sprintf("only a full copy of %d bytes from %s would help, and it is not allowed",
			w.end, r.up.Address)
		r.report(func(st *UpstreamStatus) { st.Step, st.Error = StepNeedsCopy, text })
		return fmt.Errorf("%w: %s", errEnded, text)
	}
	if err := s.becomeIncomplete(); err != nil {
		return fmt.Errorf("begin copy: %w", err)
	}
	aside := ""
	if data != DataEmpty && data != DataIncomplete && r.up.KeepDiverged {
		r.report(func(st *UpstreamStatus) { st.Step = StepKeepAside })
		aside = s.freshName(asidePrefix)
	}
	if err := s.journal.empty(aside); err != nil {
		s.fail(err)
		return err
	}
	if err := s.reload(); err != nil {
		s.fail(err)
		return err
	}
	s.log.Warn("copying everything", "upstream", r.up.Address, "bytes", w.end, "kept_aside", aside)
	return nil
}

// becomeIncomplete marks the directory, on disk first.
func (s *Server) becomeIncomplete() error {
	if err := s.markIncomplete(true); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incomplete = true
	s.notify()
	return nil
}

func (s *Server) markIncomplete(on bool) error {
	name := filepath.Join(s.opts.Dir, incompleteFile)
	if on {
		if err := writeSynced(name, []byte("This copy lacks something. Do not promote it.\n")); err != nil {
			return fmt.Errorf("mark as incomplete: %w", err)
		}
	} else if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mark as whole: %w", err)
	}
	return syncDir(s.opts.Dir)
}

// reload reads the log again after something was taken away from it.
func (s *Server) reload() error {
	img := newImage()
	log := io.NewSectionReader(s.journal.file, 0, s.journal.end)
	end, err := readLog(log, img)
	if err != nil {
		return err
	}
	if end != s.journal.end {
		return fmt.Errorf("read log again: it ends at %d and not at %d", end, s.journal.end)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.image = img
	s.commits.start(end)
	s.notify()
	return nil
}

// saveDiverged counts the commits behind an offset and, if they are to be kept, writes them to a file as
// the commands that make them, so that a person can read them and netcat can apply them.
func (s *Server) saveDiverged(from int64, keep bool) (count int, file string, err error) {
	raw := io.NewSectionReader(s.journal.file, from, s.journal.end-from)
	text := &strings.Builder{}
	in := bufio.NewReaderSize(raw, headerSize+maxPayload)
	for at := from; at < s.journal.end; {
		head, err := in.Peek(int(min(headerSize+maxPayload, s.journal.end-at)))
		if err != nil {
			return 0, "", fmt.Errorf("read log at %d: %w", at, err)
		}
		rec, err := parseRecord(head, at)
		if err != nil {
			return 0, "", fmt.Errorf("read log at %d: %w", at, err)
		}
		if c, ok := changeOf(rec); ok {
			count++
			fmt.Fprintln(text, c.line())
		}
		if _, err := in.Discard(int(rec.end - at)); err != nil {
			return 0, "", fmt.Errorf("read log at %d: %w", at, err)
		}
		at = rec.end
	}
	if count == 0 || !keep {
		return count, "", nil
	}
	file = s.freshName(divergedPrefix)
	if err := writeSynced(filepath.Join(s.opts.Dir, file), []byte(text.String())); err != nil {
		return 0, "", fmt.Errorf("keep diverged commits: %w", err)
	}
	return count, file, syncDir(s.opts.Dir)
}

// freshName is a file name with the time in it that is not taken yet.
func (s *Server) freshName(prefix string) string {
	base := prefix + now().UTC().Format("20060102T150405Z")
	name := base + ".log"
	for i := 2; ; i++ {
		_, err := os.Lstat(filepath.Join(s.opts.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return name
		}
		name = fmt.Sprintf("%s-%d.log", base, i)
	}
}

// meter measures how fast a copy goes, over the last second or so.
type meter struct {
	since time.Time
	from  int64
	rate  int64 // bytes per second
}

func (m *meter) at(when time.Time, done int64) {
	if m.from == 0 {
		m.from = done
	}
	if passed := when.Sub(m.since); passed >= time.Second {
		m.rate = int64(float64(done-m.from) / passed.Seconds())
		m.since, m.from = when, done
	}
}
