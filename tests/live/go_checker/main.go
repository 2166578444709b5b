// Command go_checker checks a log's files and proofs with golang.org/x/mod/sumdb/tlog and sumdb/note, which share no
// code with Resguardo. It reads one question as JSON and writes one answer as JSON.
package main

import (
	"encoding/base64"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proof struct {
	Index  int64    // of the leaf, or the size of the older tree
	Hash   []byte   // of the leaf, or the root of the older tree
	Hashes [][]byte // ours
}

type question struct {
	Folder       string // with the tiles
	VerifierKey  string
	Checkpoint   []byte // the signed note of the newest tree
	Entry        []byte
	Inclusions   []proof
	Consistences []proof
}

type answer struct {
	LeafHash     []byte     // of the entry
	Errors       []string   // of the checkpoint and each of our proofs, empty if it is correct
	Inclusions   [][][]byte // the proofs that Go makes of the tiles
	Consistences [][][]byte
}

// tiles reads tiles of height 8 as tlog-tiles names them: Go's own paths have the height in front.
type tiles struct{ folder string }

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var contents [][]byte
	for _, one := range wanted {
		path := "tile/" + strings.TrimPrefix(one.Path(), "tile/8/")
		content, err := os.ReadFile(filepath.Join(t.folder, path))
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	return contents, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func hash(content []byte) (h tlog.Hash) {
	copy(h[:], content)
	return h
}

func hashes(contents [][]byte) (all []tlog.Hash) {
	for _, one := range contents {
		all = append(all, hash(one))
	}
	return all
}

func bytes(all []tlog.Hash) [][]byte {
	contents := [][]byte{}
	for _, one := range all {
		contents = append(contents, one[:])
	}
	return contents
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func check(q question) (a answer, err error) {
	verifier, err := note.NewVerifier(q.VerifierKey)
	if err != nil {
		return a, err
	}
	opened, err := note.Open(q.Checkpoint, note.VerifierList(verifier))
	a.Errors = append(a.Errors, text(err))
	if err != nil {
		return a, nil
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return a, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil {
		return a, err
	}
	tree := tlog.Tree{N: size, Hash: hash(root)}
	reader := tlog.TileHashReader(tree, tiles{q.Folder})
	leaf := tlog.RecordHash(q.Entry)
	a.LeafHash = leaf[:]
	for _, one := range q.Inclusions {
		err := tlog.CheckRecord(hashes(one.Hashes), tree.N, tree.Hash, one.Index, hash(one.Hash))
		a.Errors = append(a.Errors, text(err))
		made, err := tlog.ProveRecord(tree.N, one.Index, reader)
		if err != nil {
			return a, err
		}
		a.Inclusions = append(a.Inclusions, bytes(made))
	}
	for _, one := range q.Consistences {
		err := tlog.CheckTree(hashes(one.Hashes), tree.N, tree.Hash, one.Index, hash(one.Hash))
		a.Errors = append(a.Errors, text(err))
		made, err := tlog.ProveTree(tree.N, one.Index, reader)
		if err != nil {
			return a, err
		}
		a.Consistences = append(a.Consistences, bytes(made))
	}
	return a, nil
}

func main() {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		log.Fatal(err)
	}
	a, err := check(q)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		log.Fatal(err)
	}
}
