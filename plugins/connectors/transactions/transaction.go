package transactions

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/locker-project/locker/plugins/connectors/internal/batch"
)

// A transaction is one line of a statement. The tags are the fields of the
// collection, but for other.
type transaction struct {
	Amount           string            `json:"amount"`
	Currency         string            `json:"currency,omitempty"`
	Payee            string            `json:"payee,omitempty"`
	Memo             string            `json:"memo,omitempty"`
	Account          string            `json:"account,omitempty"`
	AccountType      string            `json:"accountType,omitempty"`
	BankID           string            `json:"bankId,omitempty"`
	Kind             string            `json:"kind,omitempty"`
	Category         string            `json:"category,omitempty"`
	Reference        string            `json:"reference,omitempty"`
	FitID            string            `json:"fitId,omitempty"`
	CheckNumber      string            `json:"checkNumber,omitempty"`
	Counterparty     string            `json:"counterparty,omitempty"`
	ValueDate        string            `json:"valueDate,omitempty"`
	TransactionDate  string            `json:"transactionDate,omitempty"`
	Balance          string            `json:"balance,omitempty"`
	OriginalCurrency string            `json:"originalCurrency,omitempty"`
	ExchangeRate     string            `json:"exchangeRate,omitempty"`
	Fee              string            `json:"fee,omitempty"`
	Pending          bool              `json:"pending,omitempty"`
	Other            map[string]string `json:"other,omitempty"` // what the file has beyond that, by its own names

	time time.Time
	key  string // what tells it apart beside day and amount; empty: payee and memo
}

// A writer gives transactions their ids and hands them on.
//
// The id is made from the account and the bank's own id where there is one, else
// from account, day, amount, payee and memo (without a header: all texts of the
// row), and from how many of the same came before it in the file. So two real equal purchases on one day stay two, and the
// same statement, or an overlapping one, gives the same ids again.
type writer struct {
	out  *batch.Writer
	seen map[uint64]uint32 // how often a key occurred, by the first 8 bytes of its hash
	// repeated counts what the file had twice under one id of the bank.
	repeated int
}

func newWriter(out *batch.Writer) *writer {
	return &writer{out: out, seen: make(map[uint64]uint32)}
}

func (w *writer) put(t *transaction) error {
	id := w.id(t)
	if id == "" {
		w.repeated++
		return nil
	}
	return w.out.Put("transactions", id, t.Account, t.time, t)
}

// id returns "" for a transaction that the file has twice under one id of the
// bank.
func (w *writer) id(t *transaction) string {
	day := t.time.Format(time.DateOnly)
	if t.FitID == "" {
		if t.key != "" {
			return w.count("r", t.Account, day, t.Amount, t.key)
		}
		return w.count("d", t.Account, day, t.Amount, fold(t.Payee), fold(t.Memo))
	}
	key, full := hash("b", t.Account, t.FitID), hash("b", t.Account, t.FitID, day, t.Amount)
	if w.seen[half(full)] > 0 {
		return ""
	}
	w.seen[half(full)] = 1
	// A bank that gives one id to two different things, such as a payment and
	// its fee, is not believed: the second is told apart by what it is.
	if w.seen[half(key)] > 0 {
		return encode(full)
	}
	w.seen[half(key)] = 1
	return encode(key)
}

// count returns the id of the n-th record with the same key.
func (w *writer) count(parts ...string) string {
	key := hash(parts...)
	n := w.seen[half(key)]
	w.seen[half(key)] = n + 1
	if n == 0 {
		return encode(key)
	}
	return encode(key) + "-" + strconv.Itoa(int(n)+1)
}

// hash is over parts that are told apart by their lengths.
func hash(parts ...string) (sum [sha256.Size]byte) {
	var buf [256]byte
	b := buf[:0]
	for _, p := range parts {
		b = strconv.AppendInt(b, int64(len(p)), 10)
		b = append(append(b, ':'), p...)
	}
	return sha256.Sum256(b)
}

func half(sum [sha256.Size]byte) uint64 { return binary.BigEndian.Uint64(sum[:]) }

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func encode(sum [sha256.Size]byte) string { return alphabet.EncodeToString(sum[:15]) }

// fold makes texts that differ in case or white space alone the same.
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }
