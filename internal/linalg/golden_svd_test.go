package linalg

// goldenSVD was written with torch 2.15 on x86-64: of the first left vectors the row
// with the largest number, from 1, with its sign.
//
//	a = torch.sin(torch.arange(1, rows*cols+1, dtype=torch.float64)**2*0.7).reshape(rows, cols).float()
//	u = torch.linalg.svd(a, full_matrices=False).U
var goldenSVD = []struct {
	rows, cols int
	largest    []int
}{
	{12, 12, []int{-11, 10, -5, 2, -12, -12, -2, -1, 5, -7, 4, 12}},
	{30, 30, []int{11, -28, -6, -3, 9, -24, 1, 23, -4, 17, -13, -26}},
	{64, 64, []int{-6, 31, -35, 42, -47, -13, -26, -27, -11, -22, -34, 17}},
	{60, 40, []int{-13, 11, -8, -51, -33, -26, 11, 47, 43, -18, 49, -20}},
	{59, 40, []int{-13, 11, -8, -51, -33, -26, 11, 47, 43, -18, -54, -20}},
	{40, 60, []int{-30, 35, 8, -24, -27, -33, -29, 38, 36, -1, 30, 20}},
	{40, 90, []int{-12, -34, 40, -37, 17, -14, 5, -21, -31, -7, 24, -4}},
	{130, 130, []int{-122, -5, -15, -76, -21, 66, -62, -71, -117, -73, -129, -11}},
	{70, 150, []int{12, -2, -27, 52, 32, 13, -59, -46, -35, 20, 8, -20}},
	{150, 70, []int{147, 1, 146, 115, -59, -59, -14, 9, -38, 149, 131, -99}},
}
