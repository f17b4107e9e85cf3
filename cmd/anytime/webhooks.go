package main

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"anytime/dialer"
	"anytime/signaling"
	"anytime/signaling/webhook"
)

// webhookStop is how long a stop waits for events that are on their way.
const webhookStop = 2 * time.Second

// webhookURL checks one of --webhook's.
func webhookURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err == nil {
		err = dialer.CheckURL(u)
	}
	if err != nil {
		return "", fmt.Errorf("expected an http or https URL of a host, without user or password")
	}
	return text, nil
}

// openWebhooks starts to deliver events, when there is somebody to tell.
func (n *node) openWebhooks(context.Context) error {
	w := n.config.webhooks
	if len(w.urls) == 0 {
		return nil
	}
	sender, err := webhook.New(webhook.Config{
		URLs: w.urls, APIKey: n.keys.APIKey, Secret: n.keys.APISecret,
		Client: dialer.Client(dialer.Config{AllowPrivate: w.allowPrivate}), Log: n.log,
	})
	if err != nil {
		return err
	}
	n.webhooks = sender
	n.onStop(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, webhookStop)
		defer cancel()
		return sender.Close(ctx)
	})
	return nil
}

// tellWebhooks passes a room's event on.
func (n *node) tellWebhooks(e signaling.RoomEvent) {
	if n.webhooks == nil {
		return
	}
	if told := e.WebhookEvent(); told != nil {
		n.webhooks.Send(told)
	}
}
