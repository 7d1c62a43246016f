package contacts

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A contact has the fields of the collection contacts.
type contact struct {
	Type            string              `json:"type,omitempty"`
	Name            string              `json:"name,omitempty"`
	GivenName       string              `json:"givenName,omitempty"`
	FamilyName      string              `json:"familyName,omitempty"`
	AdditionalName  string              `json:"additionalName,omitempty"`
	HonorificPrefix string              `json:"honorificPrefix,omitempty"`
	HonorificSuffix string              `json:"honorificSuffix,omitempty"`
	AlternateName   []string            `json:"alternateName,omitempty"`
	UID             string              `json:"uid,omitempty"`
	Email           []email             `json:"email,omitempty"`
	Telephone       []telephone         `json:"telephone,omitempty"`
	Address         []address           `json:"address,omitempty"`
	BirthDate       string              `json:"birthDate,omitempty"`
	Anniversary     string              `json:"anniversary,omitempty"`
	Gender          string              `json:"gender,omitempty"`
	WorksFor        string              `json:"worksFor,omitempty"`
	Department      string              `json:"department,omitempty"`
	JobTitle        string              `json:"jobTitle,omitempty"`
	URL             []string            `json:"url,omitempty"`
	SameAs          []string            `json:"sameAs,omitempty"`
	KnowsLanguage   []string            `json:"knowsLanguage,omitempty"`
	RelatedTo       []related           `json:"relatedTo,omitempty"`
	Groups          []string            `json:"groups,omitempty"`
	Members         []string            `json:"members,omitempty"`
	Note            string              `json:"note,omitempty"`
	Image           string              `json:"image,omitempty"`
	ImageURL        string              `json:"imageUrl,omitempty"`
	Latitude        *float64            `json:"latitude,omitempty"`
	Longitude       *float64            `json:"longitude,omitempty"`
	TimeZone        string              `json:"timeZone,omitempty"`
	Revised         string              `json:"revised,omitempty"`
	Other           map[string][]string `json:"other,omitempty"` // properties beyond that, by their names
}

type email struct {
	Address string `json:"address"`
	Label   string `json:"label,omitempty"`
}

type telephone struct {
	Number string `json:"number"`
	Label  string `json:"label,omitempty"`
}

type address struct {
	Label           string `json:"label,omitempty"`
	PostOfficeBox   string `json:"postOfficeBox,omitempty"`
	ExtendedAddress string `json:"extendedAddress,omitempty"`
	StreetAddress   string `json:"streetAddress,omitempty"`
	AddressLocality string `json:"addressLocality,omitempty"`
	AddressRegion   string `json:"addressRegion,omitempty"`
	PostalCode      string `json:"postalCode,omitempty"`
	AddressCountry  string `json:"addressCountry,omitempty"`
}

type related struct {
	Name  string `json:"name"`
	Label string `json:"label,omitempty"`
}

// maxKept is how many bytes of one unknown property are kept.
const maxKept = 64 << 10

// contact reads the properties of a card. problem says why it cannot be taken.
func (p *parser) contact(c *card) (con *contact, problem string, err error) {
	con = new(contact)
	labels := c.groupLabels()
	for _, prop := range c.preferredFirst() {
		label := labels[strings.ToLower(prop.group)]
		if label == "" {
			label = labelOf(prop)
		}
		if con.name(c, prop) || con.reach(c, prop, label) || con.about(c, prop, label) {
			continue
		}
		switch prop.name {
		case "PHOTO", "LOGO", "SOUND", "KEY":
			problem, err = p.binary(con, c, prop)
		case "X-ABLABEL", "PRODID", "BEGIN", "END":
		default:
			problem = con.keep(prop.name, c.text(prop))
		}
		if problem != "" || err != nil {
			return nil, problem, err
		}
	}
	con.nameless()
	return con, "", nil
}

// name reads who it is.
func (con *contact) name(c *card, p *property) bool {
	switch p.name {
	case "FN":
		set(&con.Name, c.text(p))
	case "N":
		part := c.components(p, " ")
		set(&con.FamilyName, part(0))
		set(&con.GivenName, part(1))
		set(&con.AdditionalName, part(2))
		set(&con.HonorificPrefix, part(3))
		set(&con.HonorificSuffix, part(4))
	case "NICKNAME":
		add(&con.AlternateName, c.split(p.raw(), ',')...)
	case "UID":
		set(&con.UID, c.text(p))
	case "ORG":
		parts := c.split(p.raw(), ';')
		set(&con.WorksFor, parts[0])
		set(&con.Department, joinFilled(parts[1:], ", "))
	case "TITLE":
		set(&con.JobTitle, c.text(p))
	case "ROLE":
		if con.JobTitle != "" {
			return false // kept beside it
		}
		con.JobTitle = c.text(p)
	case "KIND", "X-ADDRESSBOOKSERVER-KIND":
		switch strings.ToLower(c.text(p)) {
		case "org", "organization":
			con.Type = "Organization"
		case "group":
			con.Type = "Group"
		case "individual":
			con.Type = "Person"
		default:
			return false
		}
	case "X-ABSHOWAS":
		if !strings.EqualFold(c.text(p), "COMPANY") {
			return false
		}
		con.Type = "Organization"
	case "GENDER":
		sex, text, _ := strings.Cut(c.text(p), ";")
		con.Gender = joinFilled([]string{map[string]string{"M": "male", "F": "female", "O": "other", "N": "none", "U": ""}[strings.ToUpper(sex)], text}, ", ")
	default:
		return false
	}
	return true
}

// reach reads where to reach somebody.
func (con *contact) reach(c *card, p *property, label string) bool {
	switch p.name {
	case "EMAIL":
		if v := strings.TrimPrefix(c.text(p), "mailto:"); v != "" {
			con.Email = append(con.Email, email{v, label})
		}
	case "TEL":
		if v := strings.TrimPrefix(c.text(p), "tel:"); v != "" {
			con.Telephone = append(con.Telephone, telephone{v, label})
		}
	case "ADR":
		part := c.components(p, ", ")
		a := address{PostOfficeBox: part(0), ExtendedAddress: part(1), StreetAddress: part(2), AddressLocality: part(3), AddressRegion: part(4), PostalCode: part(5), AddressCountry: part(6)}
		if a != (address{}) {
			a.Label = label
			con.Address = append(con.Address, a)
		}
	case "URL":
		add(&con.URL, c.text(p))
	case "IMPP", "X-SOCIALPROFILE", "X-SKYPE", "X-SKYPE-USERNAME", "X-JABBER", "X-AIM", "X-ICQ", "X-MSN", "X-YAHOO", "X-GOOGLE-TALK", "X-QQ", "X-TWITTER", "X-MS-IMADDRESS", "SOCIALPROFILE":
		v := c.text(p)
		if service, ok := strings.CutPrefix(p.name, "X-"); ok && !strings.Contains(v, ":") && v != "" && p.name != "X-MS-IMADDRESS" {
			v = strings.ToLower(strings.TrimSuffix(service, "-USERNAME")) + ":" + v
		}
		add(&con.SameAs, v)
	case "TZ":
		set(&con.TimeZone, c.text(p))
	case "GEO":
		return con.geo(c.text(p))
	default:
		return false
	}
	return true
}

// about reads what else is known of somebody.
func (con *contact) about(c *card, p *property, label string) bool {
	switch p.name {
	case "BDAY":
		return setDate(&con.BirthDate, c.text(p), p.param("X-APPLE-OMIT-YEAR"))
	case "ANNIVERSARY", "X-ANNIVERSARY", "X-MS-ANNIVERSARY", "X-EVOLUTION-ANNIVERSARY":
		return setDate(&con.Anniversary, c.text(p), p.param("X-APPLE-OMIT-YEAR"))
	case "X-ABDATE":
		return strings.EqualFold(label, "anniversary") && setDate(&con.Anniversary, c.text(p), p.param("X-APPLE-OMIT-YEAR"))
	case "NOTE":
		con.Note = joinFilled([]string{con.Note, c.text(p)}, "\n")
	case "CATEGORIES":
		add(&con.Groups, c.split(p.raw(), ',')...)
	case "LANG":
		add(&con.KnowsLanguage, c.text(p))
	case "MEMBER", "X-ADDRESSBOOKSERVER-MEMBER":
		add(&con.Members, c.text(p))
	case "RELATED", "X-ABRELATEDNAMES":
		con.relate(c.text(p), label)
	case "X-SPOUSE", "X-MS-SPOUSE", "X-EVOLUTION-SPOUSE":
		con.relate(c.text(p), "spouse")
	case "X-MANAGER", "X-MS-MANAGER", "X-EVOLUTION-MANAGER":
		con.relate(c.text(p), "manager")
	case "X-ASSISTANT", "X-MS-ASSISTANT", "X-EVOLUTION-ASSISTANT":
		con.relate(c.text(p), "assistant")
	case "AGENT":
		con.relate(c.agent(p), "agent")
	case "REV":
		m := moment(c.text(p))
		if m == "" {
			return false
		}
		set(&con.Revised, m)
	default:
		return false
	}
	return true
}

func (con *contact) relate(name, label string) {
	if name != "" {
		con.RelatedTo = append(con.RelatedTo, related{name, label})
	}
}

// geo reads "geo:47.4,8.5" of version 4.0 and "47.4;8.5" of the others.
func (con *contact) geo(s string) bool {
	lat, lon, ok := strings.Cut(strings.Replace(strings.TrimPrefix(s, "geo:"), ",", ";", 1), ";")
	if !ok {
		return false
	}
	lon, _, _ = strings.Cut(lon, ";")
	y, err1 := strconv.ParseFloat(strings.TrimSpace(lat), 64)
	x, err2 := strconv.ParseFloat(strings.TrimSpace(lon), 64)
	if errors.Join(err1, err2) != nil || !(y >= -90 && y <= 90 && x >= -180 && x <= 180) {
		return false
	}
	con.Latitude, con.Longitude = &y, &x
	return true
}

// binary stores a picture as a blob, or keeps the link to one.
func (p *parser) binary(con *contact, c *card, prop *property) (problem string, err error) {
	data, _, ok := prop.bytes()
	if prop.name != "PHOTO" && (prop.name != "LOGO" || con.Image != "") {
		if ok {
			return con.keep(prop.name, fmt.Sprintf("%d bytes", len(data))), nil
		}
		return con.keep(prop.name, c.text(prop)), nil
	}
	if !ok {
		link := c.text(prop)
		if prop.base64() || strings.HasPrefix(strings.ToLower(link), "data:") {
			return fmt.Sprintf("%s on line %d is no base64", prop.name, prop.line), nil
		}
		set(&con.ImageURL, link)
		return "", nil
	}
	if con.Image != "" && prop.name == "PHOTO" {
		return "", nil // a second picture of the same person: the preferred one is taken
	}
	con.Image, err = p.out.Blob(p.ctx, bytes.NewReader(data))
	return "", err
}

// keep stores a property that has no field.
func (con *contact) keep(name, value string) (problem string) {
	if len(value) > maxKept {
		return fmt.Sprintf("%s is longer than 64 KiB", name)
	}
	if value == "" {
		return ""
	}
	if con.Other == nil {
		con.Other = make(map[string][]string)
	}
	con.Other[name] = append(con.Other[name], value)
	return ""
}

// nameless finds a name for a card without FN.
func (con *contact) nameless() {
	if con.Name == "" {
		con.Name = joinFilled([]string{con.HonorificPrefix, con.GivenName, con.AdditionalName, con.FamilyName, con.HonorificSuffix}, " ")
	}
	if con.Name == "" {
		set(&con.Name, joinFilled(con.AlternateName, ", "))
	}
	if con.Name == "" && con.WorksFor != "" {
		con.Name, con.Type = con.WorksFor, "Organization"
	}
}

func set(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func add(field *[]string, values ...string) {
	for _, v := range values {
		if v != "" && !slices.Contains(*field, v) {
			*field = append(*field, v)
		}
	}
}

func setDate(field *string, value, omitYear string) bool {
	d := calendarDate(value, omitYear)
	if d == "" {
		return value == ""
	}
	set(field, d)
	return true
}
