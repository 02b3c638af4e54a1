package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/jimu-ai/jimu/client"
	"github.com/jimu-ai/jimu/internal/mock"
)

// exampleServer stands for a Jimu server.
func exampleServer() *httptest.Server {
	m := mock.New(mock.Options{Size: 19, Chunks: 3})
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") == "Bearer empty":
			w.WriteHeader(http.StatusPaymentRequired)
			fmt.Fprint(w, `{"error":{"message":"the balance does not cover this request","code":"insufficient_credit"}}`)
		case r.URL.Path == "/api/me":
			fmt.Fprint(w, `{"credit":{"balance":"12.5","held":"0"}}`)
		case r.URL.Path == "/api/usage":
			fmt.Fprint(w, `{"data":[{"model":"mock-model","cost":"0.0021","usage":{"in_text":6,"out_text":5}}],"next":""}`)
		default:
			w.Header().Set("X-Jimu-Cost", "0.0021")
			m.ServeHTTP(w, r)
		}
	}))
}

func Example() {
	srv := exampleServer()
	defer srv.Close()
	jimu := client.New(srv.URL, "jm_...", client.WithHTTPClient(srv.Client()))

	answer, err := jimu.Chat.Create(context.Background(), &client.ChatRequest{
		Model:    "mock-model",
		Messages: []client.Message{client.System("Be brief."), client.User("What jumps?")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(answer.Text())
	fmt.Println(answer.Usage.TotalTokens, "tokens for", answer.Cost, "credits")
	// Output:
	// The quick brown fox
	// 11 tokens for 0.0021 credits
}

func ExampleChat_Stream() {
	srv := exampleServer()
	defer srv.Close()
	jimu := client.New(srv.URL, "jm_...", client.WithHTTPClient(srv.Client()))

	request := &client.ChatRequest{Model: "mock-model", Messages: []client.Message{client.User("What jumps?")}}
	for chunk, err := range jimu.Chat.Stream(context.Background(), request) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if chunk.Usage != nil { // the last one
			fmt.Println(chunk.Usage.TotalTokens, "tokens for", chunk.Cost, "credits")
			continue
		}
		if text := chunk.Text(); text != "" {
			fmt.Println(strings.TrimSpace(text))
		}
	}
	// Output:
	// The qu
	// ick br
	// own fox
	// 8 tokens for 0.0021 credits
}

func ExampleError() {
	srv := exampleServer()
	defer srv.Close()
	jimu := client.New(srv.URL, "empty", client.WithHTTPClient(srv.Client()))

	_, err := jimu.Models.List(context.Background())
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == client.CodeNoCredit {
		fmt.Println("top up first:", e.Message)
	}
	// Output: top up first: the balance does not cover this request
}

func ExampleUsage_List() {
	srv := exampleServer()
	defer srv.Close()
	jimu := client.New(srv.URL, "jm_...", client.WithHTTPClient(srv.Client()))

	for row, err := range jimu.Usage.List(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(row.Model, row.Counts.InText, row.Counts.OutText, row.Cost)
	}
	// Output: mock-model 6 5 0.0021
}

func ExampleClient_Balance() {
	srv := exampleServer()
	defer srv.Close()
	jimu := client.New(srv.URL, "jm_...", client.WithHTTPClient(srv.Client()))

	balance, err := jimu.Balance(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(balance.Balance, balance.Held)
	// Output: 12.5 0
}
