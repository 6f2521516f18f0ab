package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// placeDone is a row with its results.
type placeDone struct {
	row     placeRow
	results []placeResult
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// printPlaceRun says what came of one run.
func printPlaceRun(w io.Writer, row placeRow, n, runs int, res placeResult) {
	_, _ = fmt.Fprintf(w, "%-48s %d/%d  ", row.name, n, runs)
	if res.moved {
		_, _ = fmt.Fprintf(w, "served after %.2f s  smallest margin %s (%v)  cut before %d of %d places (%s)  ",
			res.served.Seconds(), milliseconds(res.margin), res.whose, res.wasCut, res.places, milliseconds(res.cut))
	} else {
		_, _ = fmt.Fprint(w, "nobody moved  ")
	}
	_, _ = fmt.Fprintf(w, "overlap %d  lost %d  gap %d ms  cut sessions %d  failed connections %d  "+
		"armed again after %.1f s\n", res.overlap, res.lost, res.gap.Milliseconds(), res.losses, res.failed,
		res.armedAfter.Seconds())
	if res.moved {
		var parts []string
		for _, v := range views(res.last) {
			parts = append(parts, fmt.Sprintf("%v %s", v, milliseconds(res.last[v])))
		}
		_, _ = fmt.Fprintf(w, "    the old primary's last answer before the mirror served: %s\n", strings.Join(parts, "; "))
	}
	for _, note := range res.notes {
		_, _ = fmt.Fprintf(w, "    %s\n", note)
	}
	for _, broken := range res.broken {
		_, _ = fmt.Fprintf(w, "    BROKEN: %s\n", broken)
	}
}

// of picks one figure of each result, sorted.
func (d placeDone) of(figure func(placeResult) (time.Duration, bool)) []time.Duration {
	var list []time.Duration
	for _, res := range d.results {
		if v, ok := figure(res); ok {
			list = append(list, v)
		}
	}
	slices.Sort(list)
	return list
}

func (d placeDone) sum(figure func(placeResult) int) int {
	n := 0
	for _, res := range d.results {
		n += figure(res)
	}
	return n
}

// inTable renders the middle and the worse end of sorted figures; "-" if there are none.
func inTable(list []time.Duration, largestIsWorst bool, render func(time.Duration) string) string {
	if len(list) == 0 {
		return "-"
	}
	worst := list[0]
	if largestIsWorst {
		worst = list[len(list)-1]
	}
	return render(list[len(list)/2]) + " / " + render(worst)
}

const (
	placesTitle = "\nPostgreSQL, default timing, each host a network namespace; clients outside and on both hosts. " +
		"Median / worst.\n\n"
	placesHead = "| fault at the primary's host | runs | mirror served after | last answer of the old primary before " +
		"that | answers of both at once | lost acknowledged rows | gap in commits outside | sessions cut at a primary | " +
		"connections failed | armed again within | broken promises |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)

func printPlaces(w io.Writer, rows []placeDone) {
	_, _ = fmt.Fprint(w, placesTitle, placesHead)
	seconds := func(t time.Duration) string { return fmt.Sprintf("%.2f s", t.Seconds()) }
	for _, d := range rows {
		served := d.of(func(r placeResult) (time.Duration, bool) { return r.served, r.moved })
		margin := d.of(func(r placeResult) (time.Duration, bool) { return r.margin, r.moved })
		gap := d.of(func(r placeResult) (time.Duration, bool) { return r.gap, true })
		armed := d.of(func(r placeResult) (time.Duration, bool) { return r.armedAfter, true })
		_, _ = fmt.Fprintf(w, "| %s | %d | %s | %s | %d | %d | %s | %d | %d | %.1f s | %d |\n", d.row.name, len(d.results),
			inTable(served, true, seconds), inTable(margin, false, milliseconds),
			d.sum(func(r placeResult) int { return r.overlap }), d.sum(func(r placeResult) int { return r.lost }),
			inTable(gap, true, seconds), d.sum(func(r placeResult) int { return r.losses }),
			d.sum(func(r placeResult) int { return r.failed }), slices.Max(armed).Seconds(),
			d.sum(func(r placeResult) int { return len(r.broken) }))
	}
}

func writePlaces(path string, rows []placeDone) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	printPlaces(file, rows)
	return file.Close()
}

func placeVerdict(rows []placeDone) error {
	var bad []error
	for _, d := range rows {
		for n, res := range d.results {
			for _, broken := range res.broken {
				bad = append(bad, fmt.Errorf("%s, run %d: %s", d.row.name, n+1, broken))
			}
		}
	}
	return errors.Join(bad...)
}
