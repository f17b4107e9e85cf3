package sfu

// employ gives the server of a stage a crew.
func (st *stage) employ(helpers int) *crew {
	stop := make(chan struct{})
	c := newCrew(helpers, stop)
	st.server.crew = c
	st.t.Cleanup(func() {
		close(stop)
		c.close()
	})
	return c
}
