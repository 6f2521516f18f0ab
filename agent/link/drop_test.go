package link

import (
	"testing"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// TestAnswerOfADroppedSession: the answer is on its way to the agent when its session is dropped for another
// to the same node. The session must not become the preferred one: nothing that is put there is ever sent.
func TestAnswerOfADroppedSession(t *testing.T) {
	w := NewWitness(WitnessOptions{})
	other := newOutbox[*witnessv1.SessionRequest]()
	dropped := &session{witness: w, endpoint: "n1:1", out: newOutbox[*witnessv1.SessionRequest]()}
	dropped.stop = func(error) {}
	w.sessions["n1:1"] = dropped
	w.sessions["n2:1"] = &session{witness: w, endpoint: "n2:1", out: other}
	w.Send(Heartbeat{Sequence: 1}, false)
	<-other
	w.mu.Lock()
	w.drop(dropped)
	w.mu.Unlock()
	if err := w.accept(dropped, 1); err != nil {
		t.Fatal(err)
	}
	w.Send(Heartbeat{Sequence: 2}, false)
	if m := <-other; m.GetHeartbeat().GetSequence() != 2 {
		t.Errorf("got %v, want heartbeat 2", m)
	}
}
