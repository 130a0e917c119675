// Looks people up through a gateway with Go's net/http.
//
// Usage: main.go BASE_URL EXTERNAL_ID EMAIL UNKNOWN_ID EXPECTED_JSON
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strings"
	"time"
)

var (
	client = &http.Client{Timeout: 20 * time.Second}
	hit    = regexp.MustCompile(`;\s*hit\s*([;,]|$)`)
	age    = regexp.MustCompile(`^[0-9]+$`)
)

func main() {
	if len(os.Args) != 6 {
		fail("expected five arguments, got %d", len(os.Args)-1)
	}
	base, externalID, email, unknownID := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	text, err := os.ReadFile(os.Args[5])
	if err != nil {
		fail("%v", err)
	}
	expected := object(text)

	personAt(base, externalID, expected)
	checkHit(externalID, personAt(base, externalID, expected))
	checkUnknown(base, unknownID)
	personAt(base, email, expected)
	personAt(base, strings.Replace(email, "@", "%40", 1), expected)
	fmt.Println("ok go")
}

func personAt(base, id string, expected map[string]any) http.Header {
	header, body := lookUp(base, id, http.StatusOK)
	person := object(body)
	for field, wanted := range expected {
		if got, present := person[field]; !present || !reflect.DeepEqual(wanted, got) {
			fail("the Person at %s differs in %s: expected %v, got %v", id, field, wanted, got)
		}
	}
	for field := range person {
		if _, present := expected[field]; !present {
			fail("the Person at %s has an unexpected %s", id, field)
		}
	}
	return header
}

func checkHit(id string, header http.Header) {
	if !hit.MatchString(header.Get("Cache-Status")) {
		fail("the second lookup of %s is no hit: Cache-Status is %q", id, header.Get("Cache-Status"))
	}
	if !age.MatchString(header.Get("Age")) {
		fail("the hit on %s has no Age, but %q", id, header.Get("Age"))
	}
}

func checkUnknown(base, id string) {
	_, first := lookUp(base, id, http.StatusNotFound)
	problem := object(first)
	if problem["error"] != "Not Found" || problem["code"] != json.Number("404") {
		fail("the 404 for %s has another body: %s", id, first)
	}
	if _, again := lookUp(base, id, http.StatusNotFound); !bytes.Equal(first, again) {
		fail("the 404 differs when repeated: %s, then %s", first, again)
	}
}

func lookUp(base, id string, status int) (http.Header, []byte) {
	request, err := http.NewRequest(http.MethodGet, base+"/api/v1/people/"+id, nil)
	if err != nil {
		fail("%v", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer some-old-flameup-key")
	response, err := client.Do(request)
	if err != nil {
		fail("%v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		fail("reading the answer for %s: %v", id, err)
	}
	if response.StatusCode != status {
		fail("looking up %s gave status %d, not %d: %s", id, response.StatusCode, status, body)
	}
	return response.Header, body
}

// object reads a JSON object, with numbers as they are written.
func object(text []byte) map[string]any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		fail("%v in %s", err, text)
	}
	return value
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "go: "+format+"\n", values...)
	os.Exit(1)
}
