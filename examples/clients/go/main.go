// A request that pays: go run . [-max-work N] [-H 'Name: value']... [-d BODY] URL
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"example.com/pay/powfast"
)

type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(line string) error {
	name, value, found := strings.Cut(line, ":")
	if !found {
		return fmt.Errorf("%q is not 'Name: value'", line)
	}
	http.Header(h).Add(name, strings.TrimSpace(value))
	return nil
}

func main() {
	sent := headers{}
	body := flag.String("d", "", "send this body with POST")
	maxWork := flag.Uint64("max-work", powfast.DefaultMaxWork, "refuse a challenge over more hashes")
	flag.Var(sent, "H", "send this header, 'Name: value'")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := ask(flag.Arg(0), *body, http.Header(sent), *maxWork); err != nil {
		fmt.Fprintln(os.Stderr, "pay:", err)
		os.Exit(1)
	}
}

func ask(url, body string, sent http.Header, maxWork uint64) error {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = sent
	client := &http.Client{Transport: &powfast.Transport{MaxWork: maxWork}}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode >= 300 {
		return fmt.Errorf("HTTP %d", answer.StatusCode)
	}
	return nil
}
