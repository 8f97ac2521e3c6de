// Without a module: go run client.go
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	url    = "http://127.0.0.1:8000/imagenet/ImageClassification"
	image  = "photo.jpg"
	topNum = 5
	token  = ""
	ca     = "" // PEM file of your own certificate authority
)

type answer struct {
	LogID   int64 `json:"log_id"`
	Results []struct {
		Name  string  `json:"name"`
		Score float64 `json:"score"`
	} `json:"results"`
	ErrorCode int    `json:"error_code"`
	ErrorMsg  string `json:"error_msg"`
}

func main() {
	data, err := os.ReadFile(image)
	check(err)
	// encoding/json writes []byte as base64.
	body, err := json.Marshal(map[string]any{"image": data, "top_num": topNum})
	check(err)
	client := newClient()
	got, header := classify(client, body)
	if got.ErrorCode == 336100 {
		seconds, err := strconv.Atoi(header.Get("Retry-After"))
		check(err)
		time.Sleep(time.Duration(seconds) * time.Second)
		got, header = classify(client, body)
	}
	if got.ErrorCode != 0 {
		log.Fatalf("%d %s: %s, log_id %d",
			got.ErrorCode, got.ErrorMsg, header.Get("X-Error-Detail"), got.LogID)
	}
	for _, result := range got.Results {
		fmt.Printf("%.4f  %s\n", result.Score, result.Name)
	}
}

func newClient() *http.Client {
	client := &http.Client{Timeout: time.Minute}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	}
	return client
}

func classify(client *http.Client, body []byte) (got answer, header http.Header) {
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	check(err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	check(err)
	defer response.Body.Close()
	check(json.NewDecoder(response.Body).Decode(&got))
	return got, response.Header
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
