package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"slices"
)

// checkBolt reads all of bbolt's file and compares it with how bbolt writes one, before bbolt maps it into
// memory and believes it. Without this, a file that was cut short ends the process with a fault in a page that
// is not there; a page that is not the one it should be, with a panic, or by walking in circles; a number that
// has lost a bit hides entries that this node has promised to keep; and of two heads the one that is well is
// taken, also if the damaged one was the newer: then the last entry or vote is forgotten.
//
// The format is that of version 2, which bbolt has had since it was forked. What it leaves open, bbolt has
// always written in one way (dense pages, every page either in use or in the free list); a new release that
// does not shows in every test that opens a store twice.
//
// It says whether anything was ever put into the file.
func checkBolt(path string) (used bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	b := &boltFile{from: file}
	err = b.check()
	return b.used, err
}

func (b *boltFile) check() error {
	if err := b.readHeads(); err != nil {
		return err
	}
	info, err := b.from.Stat()
	if err != nil {
		return err
	}
	if want := int64(b.pages) * int64(b.pageSize); info.Size() < want {
		return fmt.Errorf("it is cut short: %d bytes are in use and %d are there", want, info.Size())
	}
	b.use = make([]pageUse, b.pages)
	b.use[0], b.use[1] = pageOfTree, pageOfTree
	if err := b.checkTree(bucketNames, b.root, nil, nil); err != nil {
		return err
	}
	return b.checkFree()
}

// The buckets of raft-boltdb. The name of none stands for the tree that holds their names.
const (
	bucketNames    = ""
	bucketLog      = "logs"
	bucketPromises = "conf"
)

// checkKey knows every key that can be in a bucket: one that has lost a bit would hide what is under it.
func checkKey(bucket string, e element) error {
	known := false
	switch bucket {
	case bucketNames:
		known = e.bucket && (string(e.key) == bucketLog || string(e.key) == bucketPromises)
	case bucketLog:
		known = !e.bucket && len(e.key) == 8
	case bucketPromises:
		known = !e.bucket && slices.Contains([]string{keyTerm, keyVoteTerm, keyVoteCandidate}, string(e.key))
	}
	if !known {
		return fmt.Errorf("the key %.40q is none of raft's", e.key)
	}
	return nil
}

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHead     = 16 // of a page: id 8, flags 2, count 2, overflow 4
	elementSize  = 16 // of a branch: position 4, key 4, page 8; of a leaf: flags 4, position 4, key 4, value 4
	branchPage   = 0x01
	leafPage     = 0x02
	freePage     = 0x10
	bucketInLeaf = 0x01

	noFreeList = ^uint64(0)
)

type pageUse byte

const (
	pageUnseen pageUse = iota
	pageOfTree
	pageFree
)

// boltFile is what its newest head says of a file, and which of its pages have been met.
type boltFile struct {
	from     *os.File
	pageSize uint64
	pages    uint64 // in use or free; the file may be longer
	root     uint64
	free     uint64
	use      []pageUse
	used     bool // there is a bucket
}

// readHeads reads both heads, which are the first two pages. Transactions write them in turn, and each with one
// write that is smaller than a sector: one that is not whole was whole once.
func (b *boltFile) readHeads() error {
	b.pageSize = 4096 // so much of the first one is there with any size
	var transactions [2]uint64
	order := binary.NativeEndian
	for i := range uint64(2) {
		page := make([]byte, pageHead+64)
		if _, err := b.from.ReadAt(page, int64(i*b.pageSize)); err != nil {
			return fmt.Errorf("read head %d: %w", i, err)
		}
		head := page[pageHead:]
		sum := fnv.New64a()
		_, _ = sum.Write(head[:56])
		transactions[i] = order.Uint64(head[48:])
		if order.Uint32(head) != boltMagic || order.Uint32(head[4:]) != boltVersion ||
			order.Uint64(head[56:]) != sum.Sum64() || order.Uint64(page) != i || transactions[i]%2 != i {
			return fmt.Errorf("head %d is not whole", i)
		}
		b.pageSize = uint64(order.Uint32(head[8:]))
		if i == 0 || transactions[1] > transactions[0] {
			b.root, b.free, b.pages = order.Uint64(head[16:]), order.Uint64(head[32:]), order.Uint64(head[40:])
		}
	}
	if transactions[0]+1 != transactions[1] && transactions[1]+1 != transactions[0] {
		return fmt.Errorf("its heads are of transactions %d and %d", transactions[0], transactions[1])
	}
	return nil
}

// page reads a page and those that continue it, which must not have been met before.
func (b *boltFile) page(id uint64, as pageUse) (page []byte, flags uint16, count int, err error) {
	if id < 2 || id >= b.pages {
		return nil, 0, 0, fmt.Errorf("page %d does not exist", id)
	}
	head := make([]byte, pageHead)
	if _, err := b.from.ReadAt(head, int64(id*b.pageSize)); err != nil {
		return nil, 0, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	order := binary.NativeEndian
	more := uint64(order.Uint32(head[12:]))
	if order.Uint64(head) != id || id+more >= b.pages {
		return nil, 0, 0, fmt.Errorf("page %d has the head of another", id)
	}
	for i := id; i <= id+more; i++ {
		if b.use[i] != pageUnseen {
			return nil, 0, 0, fmt.Errorf("page %d is used twice", i)
		}
		b.use[i] = as
	}
	page = make([]byte, (1+more)*b.pageSize)
	if _, err := b.from.ReadAt(page, int64(id*b.pageSize)); err != nil {
		return nil, 0, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	return page, order.Uint16(head[8:]), int(order.Uint16(head[10:])), nil
}

// checkTree goes through a page of a bucket and all below it. Its keys lie from low up to but without high.
func (b *boltFile) checkTree(bucket string, id uint64, low, high []byte) error {
	page, flags, count, err := b.page(id, pageOfTree)
	if err != nil {
		return err
	}
	nonroot := low != nil || high != nil
	if flags != branchPage && flags != leafPage || count == 0 && (nonroot || flags == branchPage) {
		return fmt.Errorf("page %d is neither branch nor leaf", id)
	}
	elements, err := splitPage(page, flags == leafPage, count, low, high)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for i, e := range elements {
		if flags == leafPage {
			err = b.checkLeaf(bucket, e)
		} else {
			next := high
			if i+1 < len(elements) {
				next = elements[i+1].key
			}
			err = b.checkTree(bucket, e.child, e.key, next)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *boltFile) checkLeaf(bucket string, e element) error {
	if err := checkKey(bucket, e); err != nil || !e.bucket {
		return err
	}
	b.used = true
	return b.checkBucket(string(e.key), e.value)
}

// checkBucket goes through a bucket: a tree of its own or, if it is small, a page within the value.
func (b *boltFile) checkBucket(name string, value []byte) error {
	if len(value) < 16 {
		return fmt.Errorf("a bucket of %d bytes", len(value))
	}
	order := binary.NativeEndian
	if root := order.Uint64(value); root != 0 {
		return b.checkTree(name, root, nil, nil)
	}
	page := value[16:]
	if len(page) < pageHead || order.Uint16(page[8:]) != leafPage {
		return errors.New("a small bucket is not whole")
	}
	elements, err := splitPage(page, true, int(order.Uint16(page[10:])), nil, nil)
	for _, e := range elements {
		if err == nil {
			err = b.checkLeaf(name, e)
		}
	}
	return err
}

type element struct {
	key, value []byte
	bucket     bool
	child      uint64
}

// splitPage takes a page apart. Keys and values follow the list of elements in its order and without a gap.
func splitPage(page []byte, leaf bool, count int, low, high []byte) ([]element, error) {
	order := binary.NativeEndian
	elements := make([]element, count)
	at := uint64(pageHead + count*elementSize)
	for i := range elements {
		begin := uint64(pageHead + i*elementSize)
		if begin+elementSize > uint64(len(page)) {
			return nil, fmt.Errorf("element %d of %d is beyond its end", i, count)
		}
		raw := page[begin : begin+elementSize]
		number := func(at int) uint64 { return uint64(order.Uint32(raw[at:])) }
		e := &elements[i]
		position, keySize, valueSize := number(0), number(4), uint64(0)
		if leaf {
			e.bucket = number(0)&bucketInLeaf != 0
			position, keySize, valueSize = number(4), number(8), number(12)
		} else {
			e.child = order.Uint64(raw[8:])
		}
		if begin+position != at || at+keySize+valueSize > uint64(len(page)) || keySize == 0 {
			return nil, fmt.Errorf("element %d of %d is not where it should be", i, count)
		}
		e.key, e.value = page[at:at+keySize], page[at+keySize:at+keySize+valueSize]
		at += keySize + valueSize
		if i > 0 && bytes.Compare(elements[i-1].key, e.key) >= 0 ||
			low != nil && bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, fmt.Errorf("the key of element %d of %d is out of order", i, count)
		}
	}
	return elements, nil
}

// checkFree goes through the list of free pages. A page in it that is in use would be written over; one that
// is in neither was in a part of the tree that was not met.
func (b *boltFile) checkFree() error {
	if b.free == noFreeList {
		return nil
	}
	page, flags, count, err := b.page(b.free, pageOfTree)
	if err != nil {
		return err
	}
	list, order := page[pageHead:], binary.NativeEndian
	n := uint64(count)
	if count == 0xFFFF {
		n, list = order.Uint64(list), list[8:]
	}
	if flags != freePage || n > uint64(len(list))/8 {
		return fmt.Errorf("page %d is not the list of free pages", b.free)
	}
	for i := range n {
		id := order.Uint64(list[8*i:])
		if id < 2 || id >= b.pages || b.use[id] != pageUnseen {
			return fmt.Errorf("page %d is free and in use", id)
		}
		b.use[id] = pageFree
	}
	for id, use := range b.use {
		if use == pageUnseen {
			return fmt.Errorf("page %d is neither free nor in use", id)
		}
	}
	return nil
}
