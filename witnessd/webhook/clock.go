package webhook

import "time"

func wallClock() time.Time { return time.Now() }
