// Without a module: go run client.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
)

const (
	url    = "http://127.0.0.1:8000/imagenet/ImageClassification"
	image  = "photo.jpg"
	topNum = 5
	token  = ""
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
	if err != nil {
		log.Fatal(err)
	}
	// encoding/json writes []byte as base64.
	body, err := json.Marshal(map[string]any{"image": data, "top_num": topNum})
	if err != nil {
		log.Fatal(err)
	}
	request, err := http.NewRequest("POST", url, bytes.NewReader(body))
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	var got answer
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		log.Fatal(err)
	}
	if got.ErrorCode != 0 {
		log.Fatalf("%d %s, log_id %d", got.ErrorCode, got.ErrorMsg, got.LogID)
	}
	for _, result := range got.Results {
		fmt.Printf("%.4f  %s\n", result.Score, result.Name)
	}
}
