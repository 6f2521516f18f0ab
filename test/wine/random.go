package main

import (
	"bytes"
	"encoding/binary"
)

// randomDLL is a bcryptprimitives.dll: Go's programs need it to start, and Wine has had it only since version 8.5,
// which Debian 12 has not. It holds no code: its one export, ProcessPrng, is forwarded to the function of advapi32.dll
// that does the same.
func randomDLL() []byte {
	const (
		name, export, target = "bcryptprimitives.dll", "ProcessPrng", "advapi32.SystemFunction036"

		fileAlign, sectionAlign = 0x200, 0x1000
		headers                 = 0x200
		section                 = sectionAlign // where the one section is, in memory
	)
	// The export directory, then what it points to. Addresses are relative to the image's base.
	var data bytes.Buffer
	at := func(offset int) uint32 { return uint32(section + offset) }
	const directory = 40
	functions, names, ordinals := directory, directory+4, directory+8
	text := ordinals + 2
	exportAt, targetAt := text+len(name)+1, text+len(name)+1+len(export)+1
	end := targetAt + len(target) + 1
	put(&data, uint32(0), uint32(0), uint32(0), at(text), uint32(1), uint32(1), uint32(1),
		at(functions), at(names), at(ordinals))
	// A function inside the export directory's own range is a forwarder: the text of another one's name.
	put(&data, at(targetAt), at(exportAt), uint16(0))
	for _, s := range []string{name, export, target} {
		data.WriteString(s + "\x00")
	}

	var image bytes.Buffer
	dos := make([]byte, 0x40)
	copy(dos, "MZ")
	binary.LittleEndian.PutUint32(dos[0x3c:], uint32(len(dos)))
	image.Write(dos)
	image.WriteString("PE\x00\x00")
	const optional = 112 + 16*8
	put(&image, uint16(0x8664), uint16(1), uint32(0), uint32(0), uint32(0), uint16(optional),
		uint16(0x2022)) // executable, large addresses, a DLL
	put(&image, uint16(0x20b), uint16(0), uint32(0), uint32(fileAlign), uint32(0), uint32(0), uint32(section),
		uint64(0x180000000), uint32(sectionAlign), uint32(fileAlign), uint16(6), uint16(0), uint16(0), uint16(0),
		uint16(6), uint16(0), uint32(0), uint32(2*sectionAlign), uint32(headers), uint32(0), uint16(3), uint16(0x100),
		uint64(0x100000), uint64(0x1000), uint64(0x100000), uint64(0x1000), uint32(0), uint32(16))
	put(&image, at(0), uint32(end)) // exports; the other fifteen directories are empty
	image.Write(make([]byte, 15*8))
	put(&image, [8]byte{'.', 'e', 'd', 'a', 't', 'a'}, uint32(end), uint32(section), uint32(fileAlign), uint32(headers),
		uint32(0), uint32(0), uint16(0), uint16(0), uint32(0x40000040)) // readable, initialized
	image.Write(make([]byte, headers-image.Len()))
	image.Write(data.Bytes())
	image.Write(make([]byte, headers+fileAlign-image.Len()))
	return image.Bytes()
}

func put(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		_ = binary.Write(b, binary.LittleEndian, v) // a buffer takes everything
	}
}
