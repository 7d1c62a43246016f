package transactions

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/locker-project/locker/plugins/connectors/connectortest"
)

// sgml is a statement of OFX 1.02, with Latin-1 although it claims ASCII, a name
// that was not escaped, and values of one line each.
const sgml = "OFXHEADER:100\r\nDATA:OFXSGML\r\nVERSION:102\r\nENCODING:USASCII\r\nCHARSET:1252\r\n\r\n<OFX>\r\n" +
	"<SIGNONMSGSRSV1><SONRS><LANGUAGE>ENG<FI><ORG>Bank<FID>1</FI></SONRS></SIGNONMSGSRSV1>\r\n<BANKMSGSRSV1><STMTTRNRS><STMTRS>\r\n" +
	"<CURDEF>CHF\r\n<BANKACCTFROM><BANKID>83019<ACCTID>CH93 0076 2011<ACCTTYPE>SAVINGS</BANKACCTFROM>\r\n<BANKTRANLIST><DTSTART>20260101<DTEND>20260131\r\n" +
	"<STMTTRN><TRNTYPE>POS<DTPOSTED>20260105<TRNAMT>-12,50<FITID>1<NAME>Caf\xe9 A & B <new><MEMO>one &amp; two</STMTTRN>\r\n" +
	"<STMTTRN>\r\n<TRNTYPE>XFER\r\n<DTPOSTED>20260106080910.123[+1:CET]\r\n<DTUSER>20260104\r\n<TRNAMT>+1000.00\r\n<FITID>2\r\n<NAME>Ada\r\n<BANKACCTTO><BANKID>5<ACCTID>99</BANKACCTTO>\r\n<SIC>5411\r\n</STMTTRN>\r\n" +
	"</BANKTRANLIST><LEDGERBAL><BALAMT>1.00<DTASOF>20260131</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>\r\n"

// xml is one of OFX 2.2, of a card and a second currency.
const xml = `<?xml version="1.0" encoding="UTF-8"?>
<?OFX OFXHEADER="200" VERSION="220" SECURITY="NONE" OLDFILEUID="NONE" NEWFILEUID="NONE"?>
<!-- made by hand --->
<OFX><CREDITCARDMSGSRSV1><CCSTMTTRNRS><CCSTMTRS><CURDEF>USD</CURDEF>
<CCACCTFROM><ACCTID>4242</ACCTID></CCACCTFROM><BANKTRANLIST>
<STMTTRN><TRNTYPE>DEBIT</TRNTYPE><DTPOSTED>20260201120000[-5:EST]</DTPOSTED><TRNAMT>-20.00</TRNAMT><FITID>a</FITID><NAME><![CDATA[Müller & <Sons>]]></NAME><CURRENCY><CURRATE>1.1</CURRATE><CURSYM>EUR</CURSYM></CURRENCY></STMTTRN>
<STMTTRN><TRNTYPE>SRVCHG</TRNTYPE><DTPOSTED>20260201120000[-5:EST]</DTPOSTED><TRNAMT>-0.40</TRNAMT><FITID>a</FITID><PAYEE><NAME>Card &#38; Co</NAME></PAYEE></STMTTRN>
<STMTTRN><TRNTYPE>DEBIT</TRNTYPE><DTPOSTED>20260202</DTPOSTED><TRNAMT>-5.00</TRNAMT><MEMO>Coffee</MEMO></STMTTRN>
<STMTTRN><TRNTYPE>DEBIT</TRNTYPE><DTPOSTED>20260202</DTPOSTED><TRNAMT>-5.00</TRNAMT><MEMO>Coffee</MEMO></STMTTRN>
</BANKTRANLIST></CCSTMTRS></CCSTMTTRNRS></CREDITCARDMSGSRSV1></OFX>
`

func TestSGML(t *testing.T) {
	sink := connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(sgml)))
	if len(sink.Records) != 2 {
		t.Fatalf("%d records", len(sink.Records))
	}
	a, b := decoded(t, sink.Records[0]), decoded(t, sink.Records[1])
	if got := line(t, a); got != "2026-01-05 -12.50 CHF|Café A & B|one & two" {
		t.Errorf("the first is %q", got)
	}
	if a.Account != "CH9300762011" || a.AccountType != "savings" || a.BankID != "83019" || a.Kind != "pos" || sink.Records[0].Source != a.Account {
		t.Errorf("the first is %+v", a)
	}
	if want := time.Date(2026, 1, 6, 8, 9, 10, 0, time.FixedZone("", 3600)); !b.time.Equal(want) || b.TransactionDate != "2026-01-04T00:00:00Z" {
		t.Errorf("the second is at %v and %s", b.time, b.TransactionDate)
	}
	if b.Amount != "1000.00" || b.Counterparty != "99" || b.Other["SIC"] != "5411" || b.Other["BANKACCTTO.BANKID"] != "5" {
		t.Errorf("the second is %+v", b)
	}
}

func TestXML(t *testing.T) {
	sink := connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(xml)))
	var got []string
	for _, r := range sink.Records {
		got = append(got, line(t, decoded(t, r)))
	}
	want := []string{
		"2026-02-01 -20.00 EUR|Müller & <Sons>|",
		"2026-02-01 -0.40 USD|Card & Co|", // another with the bank's id of the first
		"2026-02-02 -5.00 USD|Coffee|",
		"2026-02-02 -5.00 USD|Coffee|", // two equal ones without an id
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", got, want)
	}
	if tr := decoded(t, sink.Records[0]); tr.AccountType != "credit" || tr.time.Format(time.RFC3339) != "2026-02-01T12:00:00-05:00" {
		t.Errorf("%+v at %v", tr, tr.time)
	}
}

// A transaction that is broken fails alone, and its place is said.
func TestBrokenTransactions(t *testing.T) {
	for bad, why := range map[string]string{
		"<TRNAMT>$120":             "is no amount",
		"<TRNAMT>":                 "is missing",
		"<TRNAMT>1.2.3":            "is no amount",
		"<TRNAMT>-1,234":           "thousands or as a fraction",
		"<TRNAMT>1e9":              "is no amount",
		"<DTPOSTED>20261340":       "is no date",
		"<DTPOSTED>tomorrow":       "is no date",
		"<DTPOSTED>20260105[x:EST": "is no date",
	} {
		name := bad[:strings.Index(bad, ">")+1]
		broken := strings.Replace(sgml, name, bad+"\r\n<X>", 1)
		sink, err := connectortest.Parse(t, New(), connectortest.NewFile("x", []byte(broken)))
		if err != nil {
			t.Errorf("%s: %v", bad, err)
			continue
		}
		if len(sink.Records) != 1 || len(sink.Failed) != 1 || sink.Failed[0].At != "STMTTRN 1, line 13" || !strings.Contains(sink.Failed[0].Why, why) {
			t.Errorf("%s: %d records, failed %v, want %q", bad, len(sink.Records), sink.Failed, why)
		}
	}
}

func TestCutOFX(t *testing.T) {
	for _, end := range []string{"<MEMO>", "</BANKTRANLIST>", "</OFX>", "SIC>"} {
		cut := sgml[:strings.Index(sgml, end)]
		err := New().Parse(t.Context(), connectortest.NewFile("x", []byte(cut)), new(connectortest.Sink))
		connectortest.IsFileError(t, err, "line ", "cut off")
	}
}

// Entities are not expanded, so a file cannot grow in memory.
func TestEntitiesDoNotExpand(t *testing.T) {
	bomb := `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>` + strings.Replace(xml[strings.Index(xml, "<OFX>"):], "Coffee", "&b;", 1)
	sink := connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(bomb)))
	if tr := decoded(t, sink.Records[2]); tr.Payee != "&b;" {
		t.Errorf("the entity became %q", tr.Payee)
	}
}

func TestOFXRepeats(t *testing.T) {
	once := connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(sgml)))
	start, end := strings.Index(sgml, "<STMTTRN>"), strings.Index(sgml, "</BANKTRANLIST>")
	twice := connectortest.MustParse(t, New(), connectortest.NewFile("x", []byte(sgml[:end]+sgml[start:end]+sgml[end:])))
	if fmt.Sprint(twice.Records) != fmt.Sprint(once.Records) || len(twice.Notes) != 1 {
		t.Errorf("a statement with its transactions twice gave %d records and notes %q", len(twice.Records), twice.Notes)
	}
}
