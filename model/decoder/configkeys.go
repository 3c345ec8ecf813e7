package decoder

import "github.com/peftkit/peftkit/model"

func (f *Family) configKeys() []model.Key { return nil }
