package state

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRefused(t *testing.T) {
	s := open(t, Options{})
	want := Refusals{Login: "h:995/jane", Count: 2, Last: time.UnixMilli(1_700_000_000_123), Salt: []byte("salt"), Tag: []byte{0, 1}}
	for _, step := range []struct {
		change Change
		want   Refusals
	}{
		{nil, Refusals{Login: want.Login}},
		{LoginRefused{Login: want.Login, Count: 1, Last: time.UnixMilli(1), Salt: []byte("x"), Tag: []byte("y")}, Refusals{Login: want.Login, Count: 1, Last: time.UnixMilli(1), Salt: []byte("x"), Tag: []byte("y")}},
		{LoginRefused(want), want},
		{LoginAccepted{Login: "another"}, want},
		{LoginAccepted{Login: want.Login}, Refusals{Login: want.Login}},
	} {
		if step.change != nil {
			if err := s.Put(t.Context(), step.change); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Refused(t.Context(), want.Login)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("after %T: %s", step.change, diff)
		}
	}
}
