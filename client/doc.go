// Package client is the Go SDK of Jimu. It needs the standard library only.
//
//	jimu := client.New("https://ai.example.com", os.Getenv("JIMU_KEY"))
//
//	answer, err := jimu.Chat.Create(ctx, &client.ChatRequest{
//		Model:    "deepseek-chat",
//		Messages: []client.Message{client.User("Why is the sky blue?")},
//	})
//	if err != nil {
//		return err
//	}
//	fmt.Println(answer.Text(), "for", answer.Cost, "credits")
//
// A stream is an iterator. Leaving the loop ends the request:
//
//	for chunk, err := range jimu.Chat.Stream(ctx, request) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(chunk.Text())
//	}
//
// What fails is an [*Error] with the status, the stable code and the request's
// ID. Requests that a server refused for the moment, or that did not reach it,
// are sent again after a growing, random wait, or after what Retry-After asks
// for; never once an answer has begun.
package client
