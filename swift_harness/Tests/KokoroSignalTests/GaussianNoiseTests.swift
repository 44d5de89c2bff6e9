import XCTest

@testable import KokoroSignal

final class GaussianNoiseTests: XCTestCase {
    func testALongerRunStartsWithTheShorterOne() {
        let long = GaussianNoise(seed: 7).samples(1001)
        for count in [0, 1, 2, 3, 4, 5, 600] {
            XCTAssertEqual(GaussianNoise(seed: 7).samples(count), Array(long.prefix(count)))
        }
    }

    func testNoWordGivesALogarithmOfZero() {
        XCTAssertEqual(GaussianNoise.uniform(0), 0x1p-54)
        XCTAssertEqual(GaussianNoise.uniform(1 << 11), 0x1.8p-53)
        XCTAssertEqual(GaussianNoise.uniform(.max), 1)
    }
}
