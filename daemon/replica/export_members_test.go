package replica

import "context"

// Admit makes the device of a request a member, as an invitation does.
func (r *Replica) Admit(ctx context.Context, request []byte) error {
	_, _, err := r.admit(ctx, request, nil)
	return err
}
