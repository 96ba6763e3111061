package state

func childMain() {}
