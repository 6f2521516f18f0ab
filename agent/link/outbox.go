package link

// outbox holds the newest message that waits to be sent or handled; an older one is dropped for it.
type outbox[T any] chan T

func newOutbox[T any]() outbox[T] { return make(outbox[T], 1) }

// put never waits: the box is emptied and filled until it holds v.
func (o outbox[T]) put(v T) {
	for {
		select {
		case o <- v:
			return
		default:
		}
		select {
		case <-o:
		default:
		}
	}
}
