package link

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

type sessionStream = grpc.BidiStreamingClient[witnessv1.SessionRequest, witnessv1.SessionResponse]

// session is one endpoint and the session with whoever answers there.
type session struct {
	witness    *Witness
	endpoint   string
	configured bool // named by the configuration, so never forgotten
	stop       context.CancelCauseFunc

	// Of the goroutine in run.
	pace    pace
	settled <-chan time.Time // ready when the connection has been up for long enough
	told    SessionState     // last given to OnState
	refused bool             // in the last try

	// Guarded by Witness.mu.
	node  string                            // who answered there last
	nodes []*witnessv1.WitnessNode          // of its last Welcome
	out   outbox[*witnessv1.SessionRequest] // nil unless the session is up
}

// up says whether heartbeats can be sent. Called with Witness.mu held.
func (s *session) up() bool { return s.out != nil }

// run keeps the session until ctx ends or the endpoint is forgotten.
func (s *session) run(ctx context.Context) {
	for {
		s.settled = nil
		err := s.attempt(ctx)
		if s.ended(ctx) {
			return
		}
		reason, detail, refused := explain(err)
		s.refused = refused
		s.tell(SessionState{Reason: reason, Detail: detail})
		delay := s.pace.delay(ready(s.settled), refused)
		if s.pace.failures >= forgetAfter && s.witness.forget(s) {
			s.tell(SessionState{Reason: reason, Detail: detail, Forgotten: true})
			return
		}
		if !pause(ctx, delay) {
			s.ended(ctx)
			return
		}
	}
}

// ended says whether the session is to end, and tells if that is for another reason than the agent's end.
func (s *session) ended(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	if errors.Is(context.Cause(ctx), errElsewhere) {
		s.tell(SessionState{Reason: ReasonNotReached, Detail: errElsewhere.Error(), Forgotten: true})
	}
	return true
}

// attempt has one connection and returns why it ended.
func (s *session) attempt(ctx context.Context) error {
	open := func(ctx context.Context, conn grpc.ClientConnInterface) (sessionStream, error) {
		return witnessv1.NewAgentServiceClient(conn).Session(ctx)
	}
	return connect(ctx, s.endpoint, s.witness.options.Dial, open, s.talk)
}

// talk says hello, and from the Welcome on sends what is put into the outbox and hears what comes.
func (s *session) talk(
	ctx context.Context, stream sessionStream, opened func(), fail context.CancelCauseFunc,
) error {
	if stream.Send(s.witness.hello) != nil {
		_, err := stream.Recv() // says why
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return malformed("the first message of a session is no welcome")
	}
	if err := checkOptionalName("the node's name", welcome.GetNode()); err != nil {
		return err
	}
	opened()
	s.settled = time.After(settleTime)

	out := newOutbox[*witnessv1.SessionRequest]()
	var beside sync.WaitGroup
	defer beside.Wait()
	defer fail(nil)
	beside.Go(func() { pump(ctx, stream, out, func(*witnessv1.SessionRequest) {}, fail) })

	s.witness.joined(s, welcome, out)
	defer s.witness.left(s)
	s.tellUp(ctx, &beside)
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := s.hear(message, welcome.GetNode()); err != nil {
			return err
		}
	}
}

func (s *session) hear(message *witnessv1.SessionResponse, node string) error {
	switch m := message.GetMessage().(type) {
	case *witnessv1.SessionResponse_Answer:
		if err := checkAnswer(m.Answer); err != nil {
			return err
		}
		if err := s.witness.accept(s, m.Answer.GetSequence()); err != nil {
			return err
		}
		answer, odd := answerOf(m.Answer)
		answer.Node = node
		s.witness.oddly.note(odd)
		s.witness.options.OnAnswer(answer)
	case *witnessv1.SessionResponse_Nudge:
		s.witness.options.OnNudge()
	case *witnessv1.SessionResponse_Welcome:
		s.witness.renamed(s, m.Welcome)
	default:
		s.witness.oddly.note([]oddity{{what: "a kind of message that this agent does not know"}})
	}
	return nil
}

// tellUp waits after a refusal: a node may take the session and pass the leader's refusal on a moment later,
// and nobody wants to read that every two seconds.
func (s *session) tellUp(ctx context.Context, beside *sync.WaitGroup) {
	if !s.refused {
		s.tell(SessionState{Up: true})
		return
	}
	beside.Go(func() {
		if pause(ctx, settleTime) {
			s.tell(SessionState{Up: true})
		}
	})
}

// tell passes on what is news. It is called by one goroutine at a time.
func (s *session) tell(state SessionState) {
	s.witness.mu.Lock()
	state.Endpoint, state.Node = s.endpoint, s.node
	s.witness.mu.Unlock()
	if state != s.told {
		s.told = state
		s.witness.options.OnState(state)
	}
}
