package transactions

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
)

// line is a transaction in short: day, amount, currency, payee, memo.
func line(t testing.TB, tr transaction) string {
	t.Helper()
	return fmt.Sprintf("%s %s %s|%s|%s", tr.time.Format(time.DateOnly), tr.Amount, tr.Currency, tr.Payee, tr.Memo)
}

// banks are statements as banks write them: the layouts are real, the content is
// not.
var banks = []struct {
	name, csv string
	want      []string // of the first transactions
	records   int      // when others follow
}{
	{"Sparkasse, German, decimal comma", `"Auftragskonto";"Buchungstag";"Valutadatum";"Buchungstext";"Verwendungszweck";"Glaeubiger ID";"Mandatsreferenz";"Kundenreferenz (End-to-End)";"Sammlerreferenz";"Lastschrift Ursprungsbetrag";"Auslagenersatz Ruecklastschrift";"Beguenstigter/Zahlungspflichtiger";"Kontonummer/IBAN";"BIC (SWIFT-Code)";"Betrag";"Waehrung";"Info"
"DE89370400440532013000";"03.04.26";"03.04.26";"KARTENZAHLUNG";"2026-04-02T12:31";"";"";"";"";"";"";"Bäckerei Müller";"DE02120300000000202051";"BYLADEM1001";"-1.234,56";"EUR";"Umsatz gebucht"
"DE89370400440532013000";"02.04.26";"02.04.26";"GUTSCHRIFT";"Lohn";"";"";"";"";"";"";"Arbeit AG";"DE02120300000000202051";"BYLADEM1001";"2.000,00";"EUR";"Umsatz gebucht"
`, []string{"2026-04-03 -1234.56 EUR|Bäckerei Müller|2026-04-02T12:31", "2026-04-02 2000.00 EUR|Arbeit AG|Lohn"}, 2},
	{"DKB, lines before the header, payer and payee", `"Girokonto";"DE89 3704 0044 0532 0130 00"
""
"Kontostand vom 05.04.2026:";"1.000,00 €"
""
"Buchungsdatum";"Wertstellung";"Status";"Zahlungspflichtige*r";"Zahlungsempfänger*in";"Verwendungszweck";"Umsatztyp";"IBAN";"Betrag (€)";"Gläubiger-ID";"Mandatsreferenz";"Kundenreferenz"
"04.04.26";"04.04.26";"Gebucht";"Ada";"Stadtwerke";"Strom";"Ausgang";"DE02120300000000202051";"-50,1";"";"";""
"01.04.26";"01.04.26";"Gebucht";"Arbeit AG";"Ada";"Lohn";"Eingang";"DE02120300000000202051";"1.500";"";"";""
`, []string{"2026-04-04 -50.1 EUR|Stadtwerke|Strom", "2026-04-01 1500 EUR|Arbeit AG|Lohn"}, 2},
	{"Revolut, times, fee, pending", `Type,Product,Started Date,Completed Date,Description,Amount,Fee,Currency,State,Balance
CARD_PAYMENT,Current,2026-03-02 10:00:01,2026-03-03 11:12:13,Tesco,-12.34,0.00,GBP,COMPLETED,100.00
CARD_PAYMENT,Current,2026-03-04 10:00:01,,Uber,-8.00,0.10,GBP,PENDING,
`, []string{"2026-03-03 -12.34 GBP|Tesco|", "2026-03-04 -8.00 GBP|Uber|"}, 2},
	{"UBS, debit and credit, apostrophes", "Buchungsdatum;Abschlussdatum;Valutadatum;Währung;Belastung;Gutschrift;Saldo;Transaktions-Nr.;Beschreibung1\r\n" +
		"2026-01-31;2026-01-30;2026-01-31;CHF;-1'234.50;;5'000.00;9930;Miete\r\n2026-01-25;2026-01-25;2026-01-25;CHF;;7'000.00;6'234.50;9929;Lohn\r\n",
		[]string{"2026-01-31 -1234.50 CHF|Miete|", "2026-01-25 7000.00 CHF|Lohn|"}, 2},
	{"Lloyds, debits without sign", `Transaction Date,Transaction Type,Sort Code,Account Number,Transaction Description,Debit Amount,Credit Amount,Balance
23/02/2026,DEB,'30-00-00,12345678,TESCO STORES,12.50,,100.00
22/02/2026,FPI,'30-00-00,12345678,J SMITH,,200.00,112.50
`, []string{"2026-02-23 -12.50 |TESCO STORES|", "2026-02-22 200.00 |J SMITH|"}, 2},
	{"American, month first, dollars in brackets", `Date,Description,Amount,Running Bal.
01/13/2026,"COFFEE, BIG","($1,234.56)","$10.00"
01/02/2026,PAYROLL,"$2,000.00","$1,244.56"
`, []string{"2026-01-13 -1234.56 USD|COFFEE, BIG|", "2026-01-02 2000.00 USD|PAYROLL|"}, 2},
	{"Apple Card, purchases without sign", `Transaction Date,Clearing Date,Description,Merchant,Category,Type,Amount (USD),Purchased By
01/15/2026,01/16/2026,"LONG TEXT",Bakery,Food,Purchase,5.25,Ada
01/20/2026,01/20/2026,"REFUND",Shop,Other,Credit,-20.00,Ada
`, []string{"2026-01-15 -5.25 USD|Bakery|LONG TEXT", "2026-01-20 20.00 USD|Shop|REFUND"}, 2},
	{"ING (NL), Af and Bij", `"Datum";"Naam / Omschrijving";"Rekening";"Tegenrekening";"Code";"Af Bij";"Bedrag (EUR)";"Mutatiesoort";"Mededelingen"
"20260115";"Albert Heijn 1521";"NL69INGB0123456789";"";"BA";"Af";"12,34";"Betaalautomaat";"Pasvolgnr: 001"
"20260114";"Werkgever BV";"NL69INGB0123456789";"NL02ABNA0123456789";"OV";"Bij";"2500,00";"Overschrijving";"Salaris"
`, []string{"2026-01-15 -12.34 EUR|Albert Heijn 1521|Pasvolgnr: 001", "2026-01-14 2500.00 EUR|Werkgever BV|Salaris"}, 2},
	{"French, spaces in numbers", "Date;Libellé;Débit euros;Crédit euros;\n12/01/2026;\"CARTE 11/01\nMONOPRIX\";-1\u00a0234,50;;\n03/01/2026;VIREMENT;;2 000,00;\n",
		[]string{"2026-01-12 -1234.50 EUR|CARTE 11/01\nMONOPRIX|", "2026-01-03 2000.00 EUR|VIREMENT|"}, 2},
	{"Spanish, tabs", "Fecha\tConcepto\tImporte\tSaldo\n05/02/2026\tMERCADONA\t-45,60\t1.000,00\n04/02/2026\tNÓMINA\t1.500,00\t1.045,60\n",
		[]string{"2026-02-05 -45.60 |MERCADONA|", "2026-02-04 1500.00 |NÓMINA|"}, 2},
	{"Italian, data means date", "Data;Valuta;Dare;Avere;Descrizione\n01/02/2026;01/02/2026;12,00;;BAR\n02/02/2026;02/02/2026;;30,00;BONIFICO\n",
		[]string{"2026-02-01 -12.00 |BAR|", "2026-02-02 30.00 |BONIFICO|"}, 2},
	{"N26, foreign columns beside", `"Booking Date","Value Date","Partner Name","Partner Iban",Type,"Payment Reference","Account Name","Amount (EUR)","Original Amount","Original Currency","Exchange Rate"
2026-01-03,2026-01-04,"Café","",Presentment,"x","Main",-3.5,-3.5,EUR,1
`, []string{"2026-01-03 -3.5 EUR|Café|x"}, 1},
	{"Excel's sep line, names of months", "sep=;\nDate;Payee;Amount\n3 janv. 2026;Boulanger;-2,50\n15 févr. 2026;Boulanger;-2,50\n",
		[]string{"2026-01-03 -2.50 |Boulanger|", "2026-02-15 -2.50 |Boulanger|"}, 2},
	{"PayPal, time in a column of its own", `"Date","Time","TimeZone","Name","Type","Status","Currency","Gross","Fee","Net","Transaction ID"
"25/01/2026","10:11:12","Europe/Berlin","Shop","Payment","Completed","EUR","-10,00","0,00","-10,00","9AB12345"
"26/01/2026","10:11:12","Europe/Berlin","Shop","Payment","Completed","EUR","-11,00","0,00","-11,00","9AB12346"
`, []string{"2026-01-25 -10.00 EUR|Shop|", "2026-01-26 -11.00 EUR|Shop|"}, 2},
	{"a header in Finnish, proved by its currency", "Kirjauspäivä;Saaja;Määrä;Valuutta\n13.1.2026;K-Market;-5,60;EUR\n14.1.2026;Alko;-22,10;EUR\n",
		[]string{"2026-01-13 -5.60 EUR|K-Market|", "2026-01-14 -22.10 EUR|Alko|"}, 2},
	{"no header, balance proved by arithmetic", "2026-01-05,COFFEE,-3.00,97.00\n2026-01-04,RENT,-900.00,100.00\n2026-01-03,PAY,1000.00,1000.00\n",
		[]string{"2026-01-05 -3.00 |COFFEE|", "2026-01-04 -900.00 |RENT|"}, 3},
	{"a footer", "Date,Payee,Amount\n2026-01-05,Coffee,-3.00\nTotal,,-3.00\n\"Not a tax document\",,\n",
		[]string{"2026-01-05 -3.00 |Coffee|"}, 1},
	{"CR and DR", "Date,Narrative,Amount,Balance\n31/01/2026,SHOP,5.00 DR,10.00 CR\n30/01/2026,PAY,15.00 CR,15.00 CR\n",
		[]string{"2026-01-31 -5.00 |SHOP|", "2026-01-30 15.00 |PAY|"}, 2},
	{"Indian grouping", "Date,Narration,Withdrawal Amt.,Deposit Amt.,Closing Balance\n31/01/26,UPI SHOP,\"1,23,456.00\",,\"10,00,000.00\"\n",
		[]string{"2026-01-31 -123456.00 |UPI SHOP|"}, 1},
	{"American Express, purchases without sign", "Date,Description,Card Member,Account #,Amount,Extended Details,Appears On Your Statement As\n01/20/2026,SHOP,ADA,-11001,25.10,,SHOP\n01/21/2026,AUTOPAY,ADA,-11001,-300.00,,AUTOPAY\n",
		[]string{"2026-01-20 -25.10 |SHOP|", "2026-01-21 300.00 |AUTOPAY|"}, 2},
	{"Swedish, two texts, row numbers", "Radnummer,Clearingnummer,Kontonummer,Valuta,Bokföringsdag,Transaktionsdag,Referens,Beskrivning,Belopp,Bokfört saldo\n1,8327,9123456,SEK,2026-02-05,2026-02-04,ICA,Kortköp,-123.45,1000.00\n2,8327,9123456,SEK,2026-02-04,2026-02-04,,Lön,20000.00,1123.45\n",
		[]string{"2026-02-05 -123.45 SEK|ICA|Kortköp", "2026-02-04 20000.00 SEK|Lön|"}, 2},
	{"Venmo, lines without transactions", "Account Statement - (@ada),,,,,,,\nAccount Activity,,,,,,,\n,ID,Datetime,Type,Note,From,Amount (total),Ending Balance\n,,,,,,,$10.00\n,3110,2026-09-10T23:00:04,Payment,lunch,Ada,- $21.59,\n,3111,2026-09-11T23:00:04,Payment,rent,Cy,+ $1.00,\n,,,,,,,$23.40\n",
		[]string{"2026-09-10 -21.59 USD|lunch|", "2026-09-11 1.00 USD|rent|"}, 2},
	{"lines before the header, with dates and amounts", "-\n=\"0234\";21/11/2025;19/02/2026;36;1234,37 EUR\n\nDate de l'opération;Libellé;Détail de l'écriture;Montant de l'opération;Devise\n19/02/2026;VIR RECU;DE: Ada;50,00;EUR\n",
		[]string{"2026-02-19 50.00 EUR|VIR RECU|DE: Ada"}, 1},
	{"no header, a word says the direction", "\"2/10/2026\",\"Shop\",\"331.63\",\"debit\",\"Food\"\n\"1/30/2026\",\"Employer and sons\",\"900.00\",\"credit\",\"Income\"\n",
		[]string{"2026-02-10 -331.63 |Shop|", "2026-01-30 900.00 |Employer and sons|"}, 2},
	{"no header, words against the signs", "2026/01/17,DEBIT,VODAFONE  AUCKLAND,30.00\n2026/01/19,CREDIT,PAYMENT RECEIVED,-500.00\n",
		[]string{"2026-01-17 -30.00 |VODAFONE  AUCKLAND|", "2026-01-19 500.00 |PAYMENT RECEIVED|"}, 2},
	{"no header, the balance tells the debit", "07 Nov 2025,Bank credit,,£500.00,£500.00\n09 Nov 2025,Withdrawal,£20.00,,£480.00\n09 Dec 2025,Supermarket,£19.77,,£460.23\n",
		[]string{"2025-11-07 500.00 GBP|Bank credit|", "2025-11-09 -20.00 GBP|Withdrawal|"}, 3},
	{"no header, noughts instead of nothing", "11/01/2025,0,Deposit,0,500.00,500.00\n11/02/2025,101,Check,100.00,0,400.00\n11/17/2025,0,Deposit,0,700.00,1100.00\n",
		[]string{"2025-11-01 500.00 |Deposit|", "2025-11-02 -100.00 |Check|"}, 3},
	{"no header, a price beside the amount", "2026-02-10,Interest,REIT,179,,12.55,CAD\n2026-01-16,Buy,NASDAQ,300,15.90,-4779.95,CAD\n",
		[]string{"2026-02-10 12.55 CAD|Interest|", "2026-01-16 -4779.95 CAD|Buy|"}, 2},
	{"no transactions", "Date,Description,Amount,Balance\n", nil, 0},
}

func TestBanks(t *testing.T) {
	for _, tt := range banks {
		t.Run(tt.name, func(t *testing.T) {
			sink := connectortest.MustParse(t, New(), connectortest.NewFile("statement.csv", []byte(tt.csv)))
			if len(sink.Records) != tt.records {
				t.Errorf("%d records, want %d", len(sink.Records), tt.records)
			}
			for i, want := range tt.want {
				if i < len(sink.Records) {
					if got := line(t, decoded(t, sink.Records[i])); got != want {
						t.Errorf("record %d is\n%q, want\n%q", i, got, want)
					}
				}
			}
		})
	}
}

// The same statement in any encoding gives the same records.
func TestEncodings(t *testing.T) {
	text := banks[0].csv
	latin, err := charmap.Windows1252.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	wide, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	want := connectortest.MustParse(t, New(), connectortest.NewFile("utf-8", []byte(text)))
	for name, encoded := range map[string]string{"windows-1252": latin, "utf-16": wide, "with mark": "\xEF\xBB\xBF" + text, "with CRLF": strings.ReplaceAll(text, "\n", "\r\n")} {
		got := connectortest.MustParse(t, New(), connectortest.NewFile(name, []byte(encoded)))
		if fmt.Sprint(got.Records) != fmt.Sprint(want.Records) {
			t.Errorf("%s: other records than in UTF-8", name)
		}
	}
}

// What can be read in two ways is refused, with what would decide.
func TestUnclear(t *testing.T) {
	for _, tt := range []struct{ name, csv, at, why string }{
		{"day or month", "Date,Payee,Amount\n03/04/2026,Shop,-5.00\n05/04/2026,Shop,-6.00\n", "line 2", `"03/04/2026" can be read with the day or the month first`},
		{"day and month", "Date,Payee,Amount\n13/04/2026,Shop,-5.00\n04/14/2026,Shop,-6.00\n", "line 3", "two ways"},
		{"thousands or fraction", "Date,Payee,Amount\n2026-01-01,Shop,\"-1,234\"\n2026-01-02,Shop,-5\n", "line 2", "thousands or as a fraction"},
		{"point and comma", "Date;Payee;Amount\n2026-01-01;Shop;-1,5\n2026-01-02;Shop;-5.25\n", "line 3", "two ways"},
		{"two amounts without header", "2026-01-01,Shop,-5.00,7.00\n2026-01-02,Other,-6.00,3.00\n", "line 1", "more than one of its columns can be the amount"},
		{"no signs, falling balance", "Date,Description,Amount,Balance\n2026-01-01,Pay,100.00,100.00\n2026-01-02,Shop,30.00,70.00\n", "line 3", "no minus sign"},
		{"a quote that never closes", "Date,Payee,Amount\n2026-01-01,\"Shop,-1.00\n" + strings.Repeat("2026-01-02,Shop,-1.00\n", 60000), "line 2", "quote is not closed"},
		{"mostly broken", "Date,Payee,Amount\n" + strings.Repeat("2026-01-01,Shop,-1.00\n", 400) + strings.Repeat("2026-01-02,Shop,five\n", 4000), "line 402", "most of the rows cannot be read"},
		{"nothing readable", "Date,Payee,Amount\n2026-01-01,Shop,\n2026-01-02,Shop,\n", "line 2", "none of the rows could be read; the first one has no amount"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := new(connectortest.Sink)
			err := New().Parse(t.Context(), connectortest.NewFile("x.csv", []byte(tt.csv)), sink)
			connectortest.IsFileError(t, err, tt.at, tt.why)
		})
	}
}

// The order of day and month is decided by the whole file, however far the date
// that decides is.
func TestOrderOverTheWholeFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("Date,Payee,Amount\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "%02d/%02d/2026,Shop %d,-1.00\n", 3, 1+i%12, i)
	}
	for _, tt := range []struct{ last, first string }{{"25/12/2026", "2026-01-03"}, {"12/25/2026", "2026-03-01"}} {
		sink := connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(b.String()+tt.last+",Shop,-1.00\n")))
		if got := sink.Records[0].Time.Format(time.DateOnly); got != tt.first {
			t.Errorf("with %s the first day is %s, want %s", tt.last, got, tt.first)
		}
	}
}

func TestRecordsFailAlone(t *testing.T) {
	csv := "Date,Payee,Amount,Currency\n2026-01-01,Shop,-5.00,EUR\n2026-01-02,Shop,five,EUR\n2026-02-30,Shop,-1.00,EUR\n" +
		"2026-01-03,Shop\n,Shop,-1.00,EUR\n2026-01-04,Shop,-1.00,EUR,more\n2026-01-05,Last,-7.00,EUR\n"
	sink, err := connectortest.Parse(t, New(), connectortest.NewFile("x.csv", []byte(csv)))
	if err != nil {
		t.Fatal(err)
	}
	if len(sink.Records) != 2 {
		t.Errorf("%d records, want 2", len(sink.Records))
	}
	want := []string{"line 3", "line 4", "line 5", "line 6", "line 7"}
	var got []string
	for _, f := range sink.Failed {
		got = append(got, f.At)
		if f.Why == "" {
			t.Errorf("%s fails without a reason", f.At)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("failed at %v, want %v: %v", got, want, sink.Failed)
	}
}

// A long name of a column, or of the account, does not go into each record.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("n", 20_000)
	csv := "Konto:;" + long + "1\nDate;Payee;Amount;" + long + "\n" + strings.Repeat("2026-01-05;Coffee;-3.00;x\n", 1000)
	total := 0
	for _, r := range connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(csv))).Records {
		total += len(r.Fields) + len(r.ID) + len(r.Source)
	}
	if total > 10*len(csv) {
		t.Errorf("%d bytes became %d", len(csv), total)
	}
}

func TestIDs(t *testing.T) {
	ids := func(csv string) []string {
		var out []string
		for _, r := range connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(csv))).Records {
			out = append(out, r.ID)
		}
		return out
	}
	const head = "Date,Payee,Amount\n"
	const coffee, tea = "2026-01-05,Coffee,-3.00\n", "2026-01-06,Tea,-2.00\n"
	two := ids(head + coffee + coffee + tea)
	if two[0] == two[1] {
		t.Error("two equal purchases have one id")
	}
	if later := ids(head + tea + coffee + "2026-01-05,COFFEE ,-3.00\n2026-01-05,Coffee,-3.00\n"); later[0] != two[2] || later[1] != two[0] || later[2] != two[1] {
		t.Errorf("an overlapping export gives other ids: %v, %v", two, later)
	}
	// The bank's id counts, not the text that changes when a payment is booked.
	const refs = "Date,Payee,Amount,Transaction ID\n"
	if a, b := ids(refs+"2026-01-05,PENDING COFFEE,-3.00,tx_1\n"), ids(refs+"2026-01-07,Coffee,-3.00,tx_1\n2026-01-07,Coffee,-3.00,tx_2\n"); a[0] != b[0] || b[0] == b[1] {
		t.Errorf("ids by the bank's own: %v, %v", a, b)
	}
	// An id that is there twice is none.
	if a := ids(refs + "2026-01-05,A,-3.00,x1\n2026-01-07,B,-3.00,x1\n"); len(a) != 2 || a[0] == a[1] {
		t.Errorf("a repeated id swallowed a transaction: %v", a)
	}
	// Without a header, another export may find another payee.
	if a, b := ids("2026-01-05,A long text,Shop,-3.00\n"), ids("2026-01-05,A long text,Shop,-3.00\n2026-01-06,Rent,A text that is very much longer,-4.00\n"); a[0] != b[0] {
		t.Errorf("ids without a header: %v, %v", a, b)
	}
	// Row numbers are no ids.
	if a, b := ids("ID,Date,Payee,Amount\n1,2026-01-05,A,-3.00\n2,2026-01-06,B,-4.00\n3,2026-01-06,C,-4.00\n"), ids("ID,Date,Payee,Amount\n1,2026-01-06,B,-4.00\n2,2026-01-06,C,-4.00\n3,2026-01-07,D,-4.00\n"); a[1] != b[0] {
		t.Errorf("row numbers were taken for ids: %v, %v", a, b)
	}
}

func TestForeignTables(t *testing.T) {
	for name, csv := range map[string]string{
		"weather":       "date,station,temp\n2026-01-01,Zurich,-1.25\n2026-01-02,Zurich,3.50\n",
		"rain":          "Date,Station,Amount (mm)\n2026-01-01,Zurich,1.25\n",
		"readings":      "2026-01-01,meter,21.50\n2026-01-02,meter,22.75\n",
		"two readings":  "2026-01-01,meter,21.50,3.25\n2026-01-02,meter,22.75,1.50\n",
		"prices":        "2026-01-01,A book,$21.50\n2026-01-02,Another,$22.75\n",
		"orders":        "Order Date,Title,Price,Currency\n2026-01-01,A book,21.50,USD\n2026-01-02,Another,22.75,USD\n",
		"series":        "date,value\n2026-01-01,21.50\n2026-01-02,22.75\n",
		"contacts":      "Name,E-mail,Phone\nAda,ada@example.org,+44 20 7946 0011\n",
		"books":         "Title,Author,Date Read,My Rating\nMiddlemarch,George Eliot,2026/01/05,5\n",
		"steps":         "Date,Steps,Distance\n2026-01-01,10000,7.25\n",
		"plays":         "time,artist,track,ms\n2026-01-01T00:00:00Z,Bach,Aria,180000\n",
		"places":        "start_time,end_time,text,lat,lon\n2026-01-01 00:00:00,2026-01-01 00:10:00,home,47.38,-8.54\n2026-01-02 00:00:00,2026-01-02 00:10:00,work,47.37,-8.52\n",
		"one column":    "Date\n2026-01-01\n",
		"prose":         "On 2026-01-01, we paid 5.00, and more.\n",
		"dates, no sum": "Date,Description\n2026-01-01,Shop\n",
	} {
		if got, err := New().Recognise(t.Context(), connectortest.NewFile(name+".csv", []byte(csv))); got != 0 || err != nil {
			t.Errorf("%s: confidence %d, error %v", name, got, err)
		}
	}
}
