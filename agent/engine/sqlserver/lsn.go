package sqlserver

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// LSN is a place in a database's log: virtual log file, block, slot.
type LSN struct {
	VLF, Block uint32
	Slot       uint16
}

// The decimal places of an LSN written as numeric(25,0): VLF, then ten digits of Block, then five of Slot.
const (
	slotDigits  = 5
	blockDigits = 10
)

// ParseLSN reads an LSN as the catalog views show it, numeric(25,0). NULL, "" and 0 are the zero LSN.
func ParseLSN(text string) (LSN, error) {
	text = strings.TrimLeft(strings.TrimSpace(text), "0")
	if strings.Trim(text, "0123456789") != "" {
		return LSN{}, fmt.Errorf("LSN %q is not a number", text)
	}
	padded := fmt.Sprintf("%0*s", slotDigits+blockDigits+1, text)
	cut := len(padded) - slotDigits
	slot, err1 := strconv.ParseUint(padded[cut:], 10, 16)
	block, err2 := strconv.ParseUint(padded[cut-blockDigits:cut], 10, 32)
	vlf, err3 := strconv.ParseUint(padded[:cut-blockDigits], 10, 32)
	if err := errors.Join(err1, err2, err3); err != nil {
		return LSN{}, fmt.Errorf("LSN %q is not VLF, block and slot: %w", text, err)
	}
	return LSN{VLF: uint32(vlf), Block: uint32(block), Slot: uint16(slot)}, nil
}

// Scan reads an LSN from a column of type numeric(25,0).
func (l *LSN) Scan(value any) error {
	var text string
	switch v := value.(type) {
	case nil:
	case []byte:
		text = string(v)
	case string:
		text = v
	case int64:
		text = strconv.FormatInt(v, 10)
	default:
		return fmt.Errorf("an LSN came as %T", value)
	}
	parsed, err := ParseLSN(text)
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// Decimal is the LSN as numeric(25,0), the form in which SQL Server's views and restore commands have it.
func (l LSN) Decimal() string {
	text := fmt.Sprintf("%d%0*d%0*d", l.VLF, blockDigits, l.Block, slotDigits, l.Slot)
	if text = strings.TrimLeft(text, "0"); text == "" {
		return "0"
	}
	return text
}

// String is the LSN as SQL Server's messages print it, 00000021:000000a8:0001.
func (l LSN) String() string { return fmt.Sprintf("%08x:%08x:%04x", l.VLF, l.Block, l.Slot) }

// Compare says whether l is before (-1), at (0) or after (1) o, in one history of one database.
func (l LSN) Compare(o LSN) int {
	return cmp.Or(cmp.Compare(l.VLF, o.VLF), cmp.Compare(l.Block, o.Block), cmp.Compare(l.Slot, o.Slot))
}

// IsZero says that no LSN is known.
func (l LSN) IsZero() bool { return l == LSN{} }

// scalar drops the slot: what is flushed ends with a block.
func (l LSN) scalar() uint64 { return uint64(l.VLF)<<32 | uint64(l.Block) }
