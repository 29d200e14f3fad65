// Package v20170312 stands in for the routing API of Tencent's cloud, which flanneld's back end tencent-vpc is compiled with and which not every
// module proxy serves. A lab is in no such cloud: whoever asks is told so.
package v20170312

import "errors"

var errAbsent = errors.New("this flanneld is built without the API of Tencent's cloud")

type Filter struct {
	Name   *string
	Values []*string
}

type Route struct {
	RouteId              *uint64
	DestinationCidrBlock *string
	GatewayType          *string
	GatewayId            *string
	RouteType            *string
	Enabled              *bool
}

type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

type RoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

type DescribeRouteTablesRequest struct {
	Filters []*Filter
}

type DescribeRouteTablesResponse struct {
	Response *struct {
		RouteTableSet []*RouteTable
	}
}

type Client struct{}

func NewClientWithSecretId(id, key, region string) (*Client, error) { return &Client{}, nil }

func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

func NewDeleteRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func NewCreateRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errAbsent
}

func (*Client) DeleteRoutes(*RoutesRequest) (struct{}, error) { return struct{}{}, errAbsent }

func (*Client) CreateRoutes(*RoutesRequest) (struct{}, error) { return struct{}{}, errAbsent }
