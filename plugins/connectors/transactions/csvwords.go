package transactions

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// A role is what a column means.
type role int

const (
	roleNone role = iota
	roleDate
	roleValueDate
	roleClock
	roleAmount
	roleDebit
	roleCredit
	roleDirection // a word or letter that says debit or credit
	roleCurrency
	rolePayee
	rolePayer // who paid, where the payee has a column of its own
	roleMemo
	roleBalance
	roleReference // the bank's own id of a transaction
	roleAccount
	roleCheck
	roleType
	roleCounterparty
	roleFee
	roleStatus
	roleCategory
)

// words are the names of columns, as [plainHeader] leaves them, in the order in
// which they are preferred. English, German, French, Spanish, Italian,
// Portuguese, Dutch, Danish, Norwegian, Swedish, Polish.
var words = map[role][]string{
	roleDate: {"booking date", "posting date", "posted date", "post date", "date posted", "transaction date", "trans date", "completed date", "date completed", "date", "date time", "datetime", "transaction time", "started date", "created on", "finished on", "created",
		"buchungstag", "buchungsdatum", "buchung", "datum", "transaktionsdatum", "einkaufsdatum", "belegdatum", "abschlussdatum", "booking",
		"date operation", "date de l operation", "date d operation", "date de comptabilisation", "date comptable", "date de transaction", "date de traitement", "date ecriture",
		"fecha", "fecha operacion", "fecha de operacion", "f operacion", "fecha contable", "fecha de la operacion", "fecha movimiento",
		"data", "data operazione", "data contabile", "data registrazione", "data movimento", "data lancamento", "data mov", "data de lancamento", "data operacji", "data ksiegowania", "data transakcji",
		"boekdatum", "transactiedatum", "uitvoeringsdatum", "boekingsdatum", "dato", "bokforingsdag", "bokforingsdatum", "bogforingsdato", "bokfort", "bokforingsdato", "transaktionsdag", "utfort dato"},
	roleValueDate: {"value date", "valuta date", "valutadatum", "wertstellung", "wertstellungsdatum", "wert", "valuta", "date valeur", "date de valeur", "fecha valor", "f valor", "data valuta", "data valor", "data waluty", "rentedatum", "rentedato", "valutadag", "effective date", "settlement date", "posting time"},
	roleClock:     {"time", "uhrzeit", "heure", "hora", "ora", "tijd", "klokkeslett"},
	roleAmount: {"amount", "transaction amount", "amount in account currency", "billing amount", "net amount", "amount debit credit", "amount total", "betrag", "umsatz", "buchungsbetrag", "betrag in kontowahrung", "montant", "montant de l operation", "importe", "importe operacion", "importo", "valor", "montante", "bedrag", "transactiebedrag", "belob", "belop", "belopp", "kwota", "kwota transakcji", "kwota operacji", "gross", "net", "brutto", "netto",
		"amount source after fees", "sum", "total", "summe"},
	roleDebit:     {"debit", "debit amount", "amount debit", "withdrawal", "withdrawals", "withdrawal amount", "withdrawal amt", "paid out", "money out", "outflow", "spent", "payments out", "belastung", "soll", "lastschrift", "ausgang", "ausgaben", "betrag soll", "montant debit", "debito", "cargo", "cargos", "dare", "uscite", "addebiti", "uitgaven", "ut fra konto", "ut", "obciazenia", "charges"},
	roleCredit:    {"credit", "credit amount", "amount credit", "deposit", "deposits", "deposit amount", "deposit amt", "paid in", "money in", "inflow", "received", "payments in", "gutschrift", "haben", "eingang", "einnahmen", "betrag haben", "montant credit", "credito", "abono", "abonos", "avere", "entrate", "accrediti", "inkomsten", "inn pa konto", "inn", "uznania"},
	roleDirection: {"debit credit", "credit debit", "dc", "d c", "cr dr", "dr cr", "credit debit indicator", "debit or credit", "dr or cr", "soll haben", "s h", "af bij", "soll haben kennzeichen", "sens", "direction", "transaction type", "type", "trans type", "tipo", "umsatz s h"},
	roleCurrency:  {"currency", "transaction currency", "account currency", "ccy", "curr", "wahrung", "waehrung", "whrg", "devise", "devise du compte", "monnaie", "divisa", "moneda", "moeda", "munt", "muntsoort", "valuta", "valutakod", "currency code", "waluta"},
	rolePayee: {"payee", "merchant", "merchant name", "payee name", "counterparty", "counterparty name", "counter party", "beneficiary", "recipient", "name of recipient", "target name", "vendor", "partner name", "name",
		"beguenstigter zahlungspflichtiger", "begunstigter zahlungspflichtiger", "auftraggeber empfanger", "empfanger", "zahlungsempfanger", "zahlungsempfanger in", "empfanger zahlungspflichtiger", "name zahlungsbeteiligter", "auftraggeber begunstigter", "begunstigter auftraggeber", "begunstigter", "handler", "nom", "beneficiaire", "contrepartie", "nom de la contrepartie", "beneficiario", "controparte", "destinatario", "naam omschrijving", "naam tegenpartij", "tegenpartij", "modtager", "mottaker", "mottagare", "odbiorca", "nadawca odbiorca",
		"description", "transaction description", "original description", "narrative", "narration", "particulars", "transaction", "buchungsdetails", "beschreibung", "beschreibung1", "avisierungstext", "buchungsinformation", "buchungstext", "text", "tekst", "libelle", "libelle operation", "libelle simplifie", "libelle de l operation", "intitule", "concepto", "descripcion", "descrizione", "descrizione operazione", "causale", "descricao", "descritivo", "omschrijving", "omschrijving 1", "specifikation", "rubrik", "referens", "beskrivning", "beskrivelse", "forklaring", "opis", "opis operacji", "opis transakcji", "transaction details", "details", "beschreibung2"},
	rolePayer:        {"zahlungspflichtige r", "zahlungspflichtiger", "payer", "payer name", "source name", "sender", "ordonnateur", "ordonnance"},
	roleMemo:         {"memo", "notes", "note", "purpose", "message", "payment reference", "reference text", "extended details", "additional information", "remittance information", "verwendungszweck", "zahlungszweck", "zahlungsgrund", "notiz", "mitteilung", "beschreibung3", "informations complementaires", "detail de l ecriture", "detail", "communication", "communications", "observaciones", "mas datos", "note operazione", "mededelingen", "mededeling", "meddelelse", "melding", "meddelande", "tytul", "tytulem", "notes and tags", "reference"},
	roleBalance:      {"balance", "running balance", "running bal", "account balance", "balance after", "balance after transaction", "available balance", "closing balance", "saldo", "kontostand", "saldo nach buchung", "solde", "saldo contabile", "saldo na mutatie", "saldo po transakcji", "saldo apos lancamento", "saldo contabilistico", "bokfort saldo", "saldo na trn", "ending balance"},
	roleReference:    {"transaction id", "transactionid", "transaction number", "transaction no", "fitid", "fit id", "unique id", "uuid", "txn id", "trans id", "id", "identifier", "identificador", "bank reference", "bankreferenz", "archivierungsreferenz", "transaktions id", "transaktionsnummer", "transaktionscode", "numero operazione", "id transazione", "volgnr", "archive id", "arkivref", "arkivreferanse", "transferwise id", "transaction reference number"},
	roleAccount:      {"account", "account number", "account no", "account id", "iban bban", "account iban", "auftragskonto", "konto", "kontonummer auftragskonto", "iban auftragskonto", "eigenes konto", "compte", "numero de compte", "cuenta", "conto", "conta", "rekening", "rekeningnummer", "kontonummer", "account name", "card", "card number", "card no"},
	roleCheck:        {"check", "check number", "check no", "cheque", "cheque number", "check or slip", "chq ref no", "schecknummer", "numero de cheque"},
	roleType:         {"type", "transaction type", "trans type", "payment type", "umsatztyp", "umsatzart", "vorgang", "art", "type operation", "type d operation", "tipo", "tipo operazione", "mutatiesoort", "typ", "buchungsart"},
	roleCounterparty: {"counterparty iban", "counterparty account", "iban", "kontonummer iban", "iban kontonummer", "iban zahlungsbeteiligter", "konto des empfangers", "tegenrekening iban bban", "tegenrekening", "rekening tegenpartij", "account number of recipient", "payee account number", "partner iban"},
	roleFee:          {"fee", "fees", "total fees", "amount fee", "gebuhr", "gebuhren", "frais", "commission"},
	roleStatus:       {"state", "status"},
	roleCategory:     {"category", "kategorie", "categorie", "categoria", "kategori", "kategoria", "spending category", "categorie operation"},
}

// weakAmounts are words for an amount that are as common in other tables: they
// count only beside a payee and a currency, a balance or amounts that look like
// money.
var weakAmounts = []string{"valor", "gross", "net", "brutto", "netto", "sum", "total", "summe"}

// cardHeaders are columns of cards whose files write purchases without a minus
// sign, and payments with one: American Express, Apple, Discover.
var cardHeaders = []string{"appears on your statement as", "card member", "erscheint auf ihrer abrechnung als", "karteninhaber", "titulaire de la carte", "apparait sur votre releve comme", "clearing date"}

// english says whether a name of a date column tells nothing of the country.
var english = []string{"datetime", "booking", "finished on"}

var bracketed = regexp.MustCompile(`[(\[]([^)\]]*)[)\]]`)

// plainHeader reduces the name of a column to lower-case words without accents,
// and takes out a currency: "Betrag (EUR)" is "betrag" and "EUR".
func plainHeader(s string) (name, currency string) {
	s = bracketed.ReplaceAllStringFunc(s, func(b string) string {
		inner := strings.ToUpper(strings.TrimSpace(b[1 : len(b)-1]))
		if code, ok := symbols[inner]; ok {
			currency = code
			return " "
		}
		if code := currencyCode(inner); code != "" {
			currency = code
			return " "
		}
		return " " + b + " "
	})
	var b strings.Builder
	for _, r := range norm.NFD.String(strings.ToLower(s)) {
		switch {
		case unicode.Is(unicode.Mn, r):
		case r == 'ß':
			b.WriteString("ss")
		case r == 'ø':
			b.WriteByte('o')
		case r == 'æ':
			b.WriteString("ae")
		case r == 'ł':
			b.WriteByte('l')
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		case r == '€' || r == '£':
			currency = symbols[string(r)]
		default:
			b.WriteByte(' ')
		}
	}
	fields := strings.Fields(b.String())
	if n := len(fields); n > 1 && (fields[n-1] == "euros" || fields[n-1] == "euro") {
		currency, fields = "EUR", fields[:n-1]
	}
	if n := len(fields); n > 1 {
		if code := currencyCode(strings.ToUpper(fields[n-1])); code != "" && slices.Contains(commonCodes, code) {
			currency, fields = code, fields[:n-1]
			if n := len(fields); n > 1 && (fields[n-1] == "en" || fields[n-1] == "in") {
				fields = fields[:n-1]
			}
		}
	}
	return strings.Join(fields, " "), currency
}

// commonCodes are currencies whose codes are no words of a language.
var commonCodes = []string{"EUR", "USD", "GBP", "CHF", "CAD", "AUD", "NZD", "JPY", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF", "BRL", "INR", "MXN", "ZAR", "SGD", "HKD", "CNY"}

// rank says how well a name fits a role: 0 not at all, else the smaller the
// better.
func rank(r role, name string) int {
	return slices.Index(words[r], name) + 1
}

// direction reads a cell that says whether money came or went: -1, +1, or 0 for
// anything else.
func direction(s string) int {
	name, _ := plainHeader(s)
	switch name {
	case "debit", "d", "dr", "db", "dbit", "s", "soll", "af", "debet", "lastschrift", "belastung", "withdrawal", "purchase", "sale", "out", "outgoing", "check", "fee", "cargo", "uscita":
		return -1
	case "credit", "c", "cr", "crdt", "h", "haben", "bij", "gutschrift", "deposit", "refund", "return", "in", "incoming", "abono", "entrata":
		return +1
	}
	return 0
}
