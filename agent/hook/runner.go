package hook

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Hook is one command and when it runs.
type Hook struct {
	On        []Name        // empty: all events
	Instances []string      // empty: all instances
	Command   []string      // the program, by its absolute path, and its arguments
	Timeout   time.Duration // 0: DefaultTimeout
}

// DefaultTimeout is the time limit of a hook that names none.
const DefaultTimeout = 30 * time.Second

// queueLimit bounds the events of one instance that wait. A role that changes faster than its hooks run is not told
// in full; how it ended is.
const queueLimit = 16

// keptLimit bounds the results of one instance that nobody has confirmed.
const keptLimit = 64

// Event is a change of an instance's role. Its texts become the command's environment.
type Event struct {
	Change
	Pair, PairID            string
	Host, Instance, Partner string
	Engine                  string
	Epoch                   uint64
	Reason                  string
}

// Result is how one command ended.
type Result struct {
	Sequence uint64 // rises with every command of this runner, and within an instance in the order of the events
	Event    Name
	Epoch    uint64
	Instance string
	PairID   string
	Command  string // its program
	OK       bool   // exit status 0 within the time limit
	Detail   string // how it ended, and the end of what it printed
	Took     time.Duration
}

// Options are what a Runner works with.
type Options struct {
	Hooks []Hook
	// Environ looks up what commands inherit; production gives os.LookupEnv.
	Environ func(name string) (string, bool)
	Logger  *slog.Logger
	// OnDone is told of each command that has ended or was dropped, from the runner's goroutines or from the caller of
	// Run. It must not block. May be nil.
	OnDone func(Result)
}

// Runner runs hooks. Its methods may be called from any goroutine, and none but Close waits for a command.
type Runner struct {
	options Options
	closing context.Context // its end ends the commands that run
	close   context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	sequence  uint64
	dropped   uint64
	instances map[string]*queue
}

// queue is one instance's events. Guarded by Runner.mu.
type queue struct {
	waiting []job
	busy    bool     // a goroutine works it off
	running uint64   // sequence of the command that runs; 0: none does
	pair    string   // id of the newest event's
	kept    []Result // not confirmed, oldest first
}

// job is an event with the commands that it runs, and the sequence of the first of them.
type job struct {
	event    Event
	hooks    []Hook
	sequence uint64
}

// New makes a runner. The end of ctx does not end it: Close does.
func New(ctx context.Context, options Options) *Runner {
	r := &Runner{options: options, instances: map[string]*queue{}}
	if r.options.Logger == nil {
		r.options.Logger = slog.New(slog.DiscardHandler)
	}
	keepFilesFromCommands()
	r.closing, r.close = context.WithCancel(context.WithoutCancel(ctx))
	return r
}

// Run lets the hooks that ask for the event run, after those of earlier events of the same instance. It returns at
// once.
func (r *Runner) Run(event Event) {
	var hooks []Hook
	for _, h := range r.options.Hooks {
		if h.wants(event) {
			hooks = append(hooks, h)
		}
	}
	if len(hooks) == 0 {
		return
	}
	if dropped, gone := r.enqueue(event, hooks); gone {
		detail := fmt.Sprintf("not run: %d later events wait already", queueLimit)
		for k, h := range dropped.hooks {
			r.ended(dropped.event, h, Result{Sequence: dropped.sequence + uint64(k), Detail: detail})
		}
	}
}

// enqueue returns the event that had to go for the new one, if any.
func (r *Runner) enqueue(event Event, hooks []Hook) (dropped job, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return job{}, false
	}
	q := r.queueOf(event.Instance, event.PairID)
	q.waiting = append(q.waiting, job{event: event, hooks: hooks, sequence: r.sequence + 1})
	r.sequence += uint64(len(hooks))
	if len(q.waiting) > queueLimit {
		// Whatever waits was superseded by what came after it; the newest says how things are.
		dropped, gone = q.waiting[0], true
		q.waiting = slices.Delete(q.waiting, 0, 1)
		r.dropped++
	}
	if !q.busy {
		q.busy = true
		r.running.Go(func() { r.workOff(q) })
	}
	return dropped, gone
}

func (h Hook) wants(e Event) bool {
	return (len(h.On) == 0 || slices.Contains(h.On, e.Name)) &&
		(len(h.Instances) == 0 || slices.Contains(h.Instances, e.Instance))
}

func (h Hook) limit() time.Duration {
	if h.Timeout > 0 {
		return h.Timeout
	}
	return DefaultTimeout
}

// workOff runs an instance's commands one after the other until none is left.
func (r *Runner) workOff(q *queue) {
	for {
		r.mu.Lock()
		if len(q.waiting) == 0 {
			q.busy = false
			r.mu.Unlock()
			return
		}
		j := q.waiting[0]
		q.waiting = slices.Delete(q.waiting, 0, 1)
		r.mu.Unlock()
		for k, h := range j.hooks {
			if r.closing.Err() != nil {
				break
			}
			sequence := j.sequence + uint64(k)
			r.runs(q, sequence)
			took := stopwatch()
			result := r.run(h, environment(j.event, sequence, r.options.Environ))
			result.Sequence, result.Took = sequence, took()
			r.runs(q, 0)
			r.ended(j.event, h, result)
		}
	}
}

func (r *Runner) runs(q *queue, sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q.running = sequence
}

// ended completes, keeps and tells a result.
func (r *Runner) ended(event Event, h Hook, result Result) {
	result.Event, result.Epoch, result.Instance = event.Name, event.Epoch, event.Instance
	result.PairID, result.Command = event.PairID, h.Command[0]
	log := r.options.Logger.With("instance", result.Instance, "event", string(result.Event), "epoch", result.Epoch,
		"command", result.Command, "sequence", result.Sequence, "took", result.Took.Round(time.Millisecond))
	if result.OK {
		log.InfoContext(r.closing, "hook done", "detail", result.Detail)
	} else {
		log.ErrorContext(r.closing, "hook failed", "detail", result.Detail)
	}
	r.keep(result)
	if r.options.OnDone != nil {
		r.options.OnDone(result)
	}
}

func (r *Runner) keep(result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.instances[result.Instance]
	if result.PairID != q.pair {
		return
	}
	q.kept = append(q.kept, result)
	slices.SortFunc(q.kept, func(a, b Result) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if over := len(q.kept) - keptLimit; over > 0 {
		q.kept = slices.Delete(q.kept, 0, over)
	}
}

// Record keeps what was done for an instance without a command, as if it had been one, for whoever asks for
// unconfirmed results. Only Event, Epoch, Instance, PairID, Command, OK, Detail and Took of the result are taken.
func (r *Runner) Record(result Result) {
	r.mu.Lock()
	r.queueOf(result.Instance, result.PairID)
	r.sequence++
	result.Sequence = r.sequence
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return
	}
	r.keep(result)
	if r.options.OnDone != nil {
		r.options.OnDone(result)
	}
}

// queueOf is called with mu held.
func (r *Runner) queueOf(instance, pair string) *queue {
	q := r.instances[instance]
	if q == nil {
		q = &queue{}
		r.instances[instance] = q
	}
	if q.pair != pair {
		q.pair, q.kept = pair, nil // nobody confirms what concerns a pair that is no more
	}
	return q
}

// Unconfirmed returns the oldest results of an instance that nobody has confirmed, at most so many. Who confirms one
// confirms all before it, so what was dropped is not returned before what ran meanwhile has ended.
func (r *Runner) Unconfirmed(instance string, most int) []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.instances[instance]
	if q == nil {
		return nil
	}
	var list []Result
	for _, k := range q.kept {
		if len(list) < most && (q.running == 0 || k.Sequence < q.running) {
			list = append(list, k)
		}
	}
	return list
}

// Confirm forgets the results of an instance up to a sequence.
func (r *Runner) Confirm(instance string, sequence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.instances[instance]; q != nil {
		q.kept = slices.DeleteFunc(q.kept, func(k Result) bool { return k.Sequence <= sequence })
	}
}

// Dropped is how many events were not told because too many waited.
func (r *Runner) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Close drops what waits, ends what runs as its time limit would, and returns when it has ended.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	lost := 0
	for _, q := range r.instances {
		lost += len(q.waiting)
		q.waiting = nil
	}
	r.mu.Unlock()
	if lost > 0 {
		r.options.Logger.WarnContext(r.closing, "hooks not run: the agent stops", "events", lost)
	}
	r.close()
	r.running.Wait()
}
